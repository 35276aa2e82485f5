package source

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tree is a folder written down: "name" is a file with its content, "name*" an executable one, "name/" a folder and
// "name@" a link with its target.
type tree map[string]string

func (tr tree) write(t testing.TB, dir string) {
	t.Helper()
	for name, content := range tr {
		full := filepath.Join(dir, strings.TrimRight(name, "*@/"))
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		case strings.HasSuffix(name, "@"):
			err = os.Symlink(content, full)
		case strings.HasSuffix(name, "*"):
			err = os.WriteFile(full, []byte(content), 0o755)
		default:
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (tr tree) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tr.write(t, dir)
	return dir
}

// readTree is the inverse of write; folders are written down when they are empty, or when all are asked for.
func readTree(t testing.TB, dir string) tree {
	t.Helper()
	got := tree{}
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || full == dir {
			return err
		}
		name, _ := filepath.Rel(dir, full)
		switch info, err := d.Info(); {
		case err != nil:
			return err
		case d.IsDir():
			if entries, err := os.ReadDir(full); err == nil && len(entries) == 0 {
				got[name+"/"] = ""
			}
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(full)
			got[name+"@"] = target
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is a %s", name, info.Mode())
		default:
			if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
				return fmt.Errorf("%s has mode %s", name, info.Mode())
			}
			content, err := os.ReadFile(full)
			if info.Mode()&0o100 != 0 {
				name += "*"
			}
			got[name] = string(content)
			return err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func packed(t testing.TB, dir string) ([]byte, string) {
	t.Helper()
	var buf bytes.Buffer
	digest, err := Pack(context.Background(), &buf, dir)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), string(digest)
}

// names lists a tarball: the names in order, folders with their slash.
func names(t testing.TB, data []byte) []string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		hdr, err := tr.Next()
		if err != nil {
			return list
		}
		list = append(list, hdr.Name)
	}
}

// A member of a tarball; its Size is that of the content.
type member struct {
	tar.Header
	content string
}

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, m := range members {
		m.Size = int64(len(m.content))
		if err := tw.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func folder(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func link(typ byte, name, target string) member {
	return member{tar.Header{Typeflag: typ, Name: name, Linkname: target, Mode: 0o777}, ""}
}

// block is a header that the tar package refuses to write. It has room for whatever a test puts in before it is summed.
func block(magic string, typ byte, name string, size int64, fill func(b []byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
	b[156] = typ
	copy(b[257:], magic)
	if fill != nil {
		fill(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

const (
	magicUSTAR = "ustar\x0000"
	magicGNU   = "ustar  \x00"
	tenGB      = 10 << 30
)

// oldSparse is a sparse file of GNU tar's own format: one hole and nothing else.
func oldSparse() []byte {
	return append(block(magicGNU, tar.TypeGNUSparse, "sparse", 0, func(b []byte) {
		copy(b[386:], fmt.Sprintf("%012o%011o\x00", tenGB, 0))
		copy(b[483:], fmt.Sprintf("%012o", tenGB))
	}), make([]byte, 1024)...)
}

// paxSparse is a sparse file of PAX form 1.0: the map stands in the content.
func paxSparse() []byte {
	var records string
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=sparse", fmt.Sprintf("GNU.sparse.realsize=%d", tenGB)} {
		records += fmt.Sprintf("%d %s\n", len(r)+4, r) // All are long enough for two digits.
	}
	data := block(magicUSTAR, tar.TypeXHeader, "x", int64(len(records)), nil)
	data = append(data, pad(records)...)
	data = append(data, block(magicUSTAR, tar.TypeReg, "x", 512, nil)...)
	data = append(data, pad(fmt.Sprintf("1\n%d\n0\n", tenGB))...)
	return append(data, make([]byte, 1024)...)
}

func pad(s string) []byte {
	b := []byte(s)
	return append(b, make([]byte, (512-len(b)%512)%512)...)
}
