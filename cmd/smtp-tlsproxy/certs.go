package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func certsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "certs",
		Short: "List certificates, make some for development, print TLSA records",
		Args:  cobra.NoArgs,
		RunE:  showHelp,
	}
	c.AddCommand(certsListCommand(), certsGenerateCommand(), certsTLSACommand())
	return c
}

// directoryFlags adds --certificates and --config to a command, and returns what
// finds the certificate directory once the flags are read. Of a directory that
// is named by itself the configuration has nothing else.
func directoryFlags(c *cobra.Command) func() (*config.Config, error) {
	directory := c.Flags().StringP("certificates", "d", "", "the certificate `DIRECTORY`, in place of the one that the configuration names")
	configured := configFlag(c)
	_ = c.MarkFlagDirname("certificates") // it is there
	return func() (*config.Config, error) {
		if *directory != "" {
			return directoryAlone(*directory)
		}
		from, err := configured()
		if err != nil {
			return nil, err
		}
		cfg, err := from.load()
		if !errors.Is(err, fs.ErrNotExist) || c.Flags().Changed("config") {
			return cfg, err
		}
		if from.env.Directory() != "" {
			return directoryAlone(from.env.Directory())
		}
		return nil, fmt.Errorf("%w; or name the certificate directory alone with --certificates", err)
	}
}

func directoryAlone(directory string) (*config.Config, error) {
	directory, err := filepath.Abs(directory)
	return &config.Config{Certificates: config.Certificates{Directory: directory}}, err
}

// serverNames refuses arguments that are no names of folders.
func serverNames(_ *cobra.Command, args []string) error {
	for _, name := range args {
		if _, err := folderName(name); err != nil {
			return err
		}
	}
	return nil
}

// folderName is sni.FolderName with an error for who typed the name.
func folderName(name string) (string, error) {
	folder, err := sni.FolderName(name)
	if err != nil && folder != "" {
		return "", fmt.Errorf("%s: %w: write %s", escape.Field(name), err, folder)
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w", escape.Field(name), err)
	}
	return folder, nil
}

// folderNames are the folders of the names, which serverNames has let pass.
func folderNames(names []string) []string {
	folders := make([]string, len(names))
	for i, name := range names {
		folders[i], _ = folderName(name)
	}
	return folders
}

// maxCompletions is how many folders a shell is told of: more are no help.
const maxCompletions = 500

// completeFolders tells a shell the folders whose names begin so.
func completeFolders(configured func() (*config.Config, error)) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begin string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := configured()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		entries, _ := os.ReadDir(cfg.Certificates.Directory) // with an error there is nothing to tell
		var folders []cobra.Completion
		for _, entry := range entries {
			if folder, err := sni.FolderName(entry.Name()); err == nil && strings.HasPrefix(folder, begin) && len(folders) < maxCompletions {
				folders = append(folders, folder)
			}
		}
		return folders, cobra.ShellCompDirectiveNoFileComp
	}
}
