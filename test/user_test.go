package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestR88_UserAlready: where the program was started as the user that it is to
// become, it must have nothing that the user has not, as it could not give it
// up.
func TestR88_UserAlready(t *testing.T) {
	t.Parallel()
	need(t, "root", "setpriv")
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	openTo(t, certs.dir)
	const same = "--reuid=" + nobody + " --regid=65001"
	for _, test := range []struct {
		name, privileges string
		want             []string // of the reason; none starts
	}{
		{"nothing more", same + " --clear-groups", nil},
		{"its own group twice", same + " --groups=65001", nil},
		{"a group of root", "--reuid=" + nobody + " --regid=0 --clear-groups", []string{"the gids [0 0 0] in place of 65001", "the groups [0] in place of [65001]"}},
		{"another group besides", same + " --groups=65001,4", []string{"the groups [4 65001] in place of [65001]"}},
		{"a capability", same + " --clear-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service", []string{"capabilities (CapPrm 0000000000000400)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := setup{certificates: certs, backend: server.address, process: `user: "` + nobody + `:65001"`}.complete(t)
			file := filepath.Join(sharedDir(t), "config.yaml")
			writeFile(t, file, s.yaml())
			arguments := append(strings.Fields(test.privileges), builtBinary(t), "serve", "--config", file)
			command := exec.CommandContext(t.Context(), "setpriv", arguments...)
			if test.want == nil {
				p := &proxy{setup: s, file: file, process: startProcess(t, "smtp-tlsproxy serve", filepath.Join(t.TempDir(), "log"), command)}
				p.waitReady(t)
				p.waitLog(t, "the program has no rights but those of its user now", `"uid":`+nobody+`,"gid":65001`)
				p.requireThreads(t, "CapPrm", "0000000000000000")
				return
			}
			output, err := command.CombinedOutput()
			if err == nil || command.ProcessState.ExitCode() != 1 {
				t.Errorf("exit code %d (%v), want 1", command.ProcessState.ExitCode(), err)
			}
			for _, want := range append(test.want, "config.yaml:", "runs as user "+nobody+":65001 already", "leave process.user out") {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %q in:\n%s", want, output)
				}
			}
		})
	}
}
