// Release writes what goes with a release besides the program: the licences of
// the modules that are linked into it, and its software bill of materials. Both
// depend on nothing but the sources and the binary, so that whoever builds the
// same commit gets the same bytes.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

const usage = `usage:
  release notices -root FOLDER -arch GOARCH
  release sbom    -root FOLDER -binary FILE -version VERSION -epoch SECONDS`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	root := flags.String("root", ".", "the top of the repository")
	arch := flags.String("arch", "", "the architecture whose modules are listed")
	binary := flags.String("binary", "", "the program that is described")
	version := flags.String("version", "", "the version of the release")
	epoch := flags.Int64("epoch", 0, "when the release was made, in seconds since 1970")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "notices":
		modules, err := linked(*root, *arch)
		if err != nil {
			return err
		}
		return writeNotices(out, modules)
	case "sbom":
		return writeSBOM(out, *root, *binary, *version, time.Unix(*epoch, 0).UTC())
	}
	return fmt.Errorf("no command %q\n%s", args[0], usage)
}
