package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// makeFolders makes those of n folders with an ECDSA pair that are not there
// yet. A mark tells the next run that all are.
func makeFolders(dir string, n int) error {
	mark := filepath.Join(dir, ".complete")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	ca, err := devcert.NewCA("bench")
	if err != nil {
		return err
	}
	began := time.Now()
	var all errgroup.Group
	for worker := range runtime.NumCPU() {
		all.Go(func() error {
			for i := worker; i < n; i += runtime.NumCPU() {
				name := folderName(i)
				if err := ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("making folders: %w", err)
	}
	fmt.Printf("made %d folders in %v\n", n, time.Since(began).Round(time.Second))
	return os.WriteFile(mark, nil, 0o600)
}
