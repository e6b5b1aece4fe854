package chaos

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// A power cut takes what nobody has waited for and leaves what was synced; a full disk takes nothing. Where one may not mount,
// no fault needs disks.
func TestDisksForget(t *testing.T) {
	t.Parallel()
	if !disksPossible() {
		if slices.ContainsFunc(faults(), ofDisks) {
			t.Error("a fault of disks could be dealt where there are none")
		}
		return
	}
	dir := t.TempDir()
	d := &disk{image: filepath.Join(dir, "image"), at: filepath.Join(dir, "disk")}
	if err := d.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeDisks(context.WithoutCancel(t.Context()), dir); err != nil {
			t.Error(err)
		}
	})
	write := func(name string, sync bool) {
		t.Helper()
		file, err := os.Create(filepath.Join(d.at, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString("acknowledged"); err != nil {
			t.Fatal(err)
		}
		if sync && file.Sync() != nil {
			t.Fatal("not synced")
		}
	}
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(d.at, name))
		return string(text)
	}
	write("installed", false)
	if err := d.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	write("synced", true)
	write("not", false)
	if read("not") != "acknowledged" {
		t.Fatal("nothing was written")
	}
	if err := d.cut(); err != nil {
		t.Fatal(err)
	}
	if file, err := os.Create(filepath.Join(d.at, "after")); err == nil {
		_ = file.Close()
		t.Error("a disk without power was written to")
	}
	if err := d.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read("installed") != "acknowledged" || read("synced") != "acknowledged" || read("not") != "" {
		t.Errorf("after the power cut there are %q and %q, which were synced, and %q, which was not", read("installed"), read("synced"), read("not"))
	}
	if err := d.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.at, "more"), make([]byte, fillLeast), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk says %v", err)
	}
	if err := d.free(); err != nil {
		t.Fatal(err)
	}
	write("more", true)
}
