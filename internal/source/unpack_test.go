package source

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/rlaaudgjs5638/hersh/events"
)

// site is a folder with a target to unpack to, and things beside it that nobody may touch.
type site struct{ outer, target string }

var beside = tree{"canary": "alive", "other/file": "x"}

func newSite(t testing.TB, outer string) site {
	s := site{outer: outer, target: filepath.Join(outer, "src")}
	beside.write(t, outer)
	if err := os.MkdirAll(s.target, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// check fails when anything is outside of the target, or leads there.
func (s site) check(t testing.TB) {
	t.Helper()
	got := readTree(t, s.outer)
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, "src/") })
	if !maps.Equal(got, beside) {
		t.Errorf("beside the target is %q", got)
	}
	for name, target := range readTree(t, s.target) {
		if !strings.HasSuffix(name, "@") {
			continue
		}
		real, err := filepath.EvalSymlinks(filepath.Join(s.target, strings.TrimSuffix(name, "@")))
		if err == nil && real != s.target && !strings.HasPrefix(real, s.target+"/") {
			t.Errorf("%q to %q leads to %q", name, target, real)
		}
	}
}

// small limits make small tests.
func small() Limits { return Limits{Entries: 20, Bytes: 4096, FileBytes: 2048} }

func TestUnpackHostile(t *testing.T) {
	deep := strings.Repeat("d/", maxDepth) + "f"
	var many, mostlyFolders, chain []member
	for i := range 21 {
		many = append(many, file(fmt.Sprint("f", i), ""))
	}
	for i := range 7 {
		mostlyFolders = append(mostlyFolders, file(fmt.Sprintf("a%d/b/c/f", i), ""))
	}
	for i := range 3 {
		chain = append(chain, file(fmt.Sprint("f", i), strings.Repeat("x", 1500)))
	}
	dev := func(typ byte) member {
		return member{tar.Header{Typeflag: typ, Name: "dev", Mode: 0o644, Devmajor: 1}, ""}
	}
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"climbs", archive(t, file("../x", "x")), ErrUnsafePath},
		{"climbs from within", archive(t, file("a/../../x", "x")), ErrUnsafePath},
		{"climbs in the end", archive(t, folder("a/..")), ErrUnsafePath},
		{"is the folder above", archive(t, folder("..")), ErrUnsafePath},
		{"does not climb far", archive(t, file("a/../x", "x")), ErrUnsafePath},
		{"absolute file", archive(t, file("/tmp/x", "x")), ErrUnsafePath},
		{"absolute folder", archive(t, folder("/x/")), ErrUnsafePath},
		{"root folder", archive(t, folder("/")), ErrUnsafePath},
		{"file with a slash", block(magicUSTAR, tar.TypeReg, "a/", 0, nil), ErrUnsafePath},
		{"file is the folder", block(magicUSTAR, tar.TypeReg, ".", 0, nil), ErrUnsafePath},
		{"empty element", archive(t, file("a//x", "x")), ErrUnsafePath},
		{"dot within", archive(t, file("a/./x", "x")), ErrUnsafePath},
		{"dots twice", archive(t, file("././x", "x")), ErrUnsafePath},
		{"dot and root", archive(t, file(".//x", "x")), ErrUnsafePath},
		{"no name", block(magicUSTAR, tar.TypeReg, "", 0, nil), ErrUnsafePath},
		{"not UTF-8", block(magicUSTAR, tar.TypeReg, "\xff", 0, nil), ErrUnsafePath},

		{"link leads out", archive(t, link(tar.TypeSymlink, "l", "../x")), ErrUnsafePath},
		{"link is absolute", archive(t, link(tar.TypeSymlink, "l", "/etc/passwd")), ErrUnsafePath},
		{"link to nothing", archive(t, link(tar.TypeSymlink, "l", "")), ErrUnsafePath},
		{"link leads out from below", archive(t, link(tar.TypeSymlink, "a/b/l", "../../../x")), ErrUnsafePath},
		{"link leads out by another", archive(t, link(tar.TypeSymlink, "l", "a/b"), link(tar.TypeSymlink, "m", "l/../../../x")), ErrUnsafePath},
		{"link leads out by a later one", archive(t, link(tar.TypeSymlink, "m", "a/l/../../.."), link(tar.TypeSymlink, "a/l", "..")), ErrUnsafePath},
		{"file through a link", archive(t, folder("a"), link(tar.TypeSymlink, "l", "a"), file("l/x", "x")), ErrUnsafePath},
		{"file through a link that leads out", archive(t, link(tar.TypeSymlink, "l", ".."), file("l/x", "x")), ErrUnsafePath},
		{"file over a link", archive(t, link(tar.TypeSymlink, "l", "a"), file("l", "x")), ErrUnsafePath},
		{"folder over a link", archive(t, link(tar.TypeSymlink, "l", "a"), folder("l")), ErrUnsafePath},
		{"link over a folder", archive(t, folder("l"), link(tar.TypeSymlink, "l", "a")), ErrUnsafePath},
		{"link over a folder in use", archive(t, file("l/x", "x"), link(tar.TypeSymlink, "l", "..")), ErrUnsafePath},
		{"hard link leads out", archive(t, link(tar.TypeLink, "h", "../canary")), ErrUnsafePath},
		{"hard link is absolute", archive(t, link(tar.TypeLink, "h", "/etc/passwd")), ErrUnsafePath},
		{"hard link to nothing", archive(t, link(tar.TypeLink, "h", "x")), ErrUnsafePath},
		{"hard link to itself", archive(t, link(tar.TypeLink, "h", "h")), ErrUnsafePath},
		{"hard link to a folder", archive(t, folder("a"), link(tar.TypeLink, "h", "a")), ErrUnsafePath},
		{"hard link to a link", archive(t, link(tar.TypeSymlink, "l", "a"), link(tar.TypeLink, "h", "l")), ErrUnsafePath},
		{"hard link to a hard link that is none", archive(t, link(tar.TypeLink, "h", "i"), link(tar.TypeLink, "i", "h")), ErrUnsafePath},
		{"hard links multiply", archive(t, append(chain[:2:2], link(tar.TypeLink, "h", "f0"))...), ErrTooLarge},
		{"twice the same file", archive(t, file("a", "1"), file("a", "2")), ErrUnsafePath},
		{"twice, spelt differently", archive(t, file("a", "1"), file("./a", "2")), ErrUnsafePath},
		{"file and folder", archive(t, file("a", "1"), folder("a")), ErrUnsafePath},
		{"folder and file", archive(t, folder("a"), file("a", "1")), ErrUnsafePath},
		{"below a file", archive(t, file("a", "1"), file("a/b", "2")), ErrUnsafePath},

		{"character device", archive(t, dev(tar.TypeChar)), ErrUnsupportedEntry},
		{"block device", archive(t, dev(tar.TypeBlock)), ErrUnsupportedEntry},
		{"pipe", archive(t, dev(tar.TypeFifo)), ErrUnsupportedEntry},
		{"contiguous file", block(magicUSTAR, tar.TypeCont, "x", 0, nil), ErrUnsupportedEntry},
		{"unknown type", block(magicUSTAR, 'Z', "x", 0, nil), ErrUnsupportedEntry},
		{"sparse of old", oldSparse(), ErrUnsupportedEntry},
		{"sparse of PAX", paxSparse(), ErrUnsupportedEntry},

		{"10 GB", block(magicGNU, tar.TypeReg, "x", 0, func(b []byte) { copy(b[124:], "\x80\x00\x00\x00\x00\x00\x00\x02\x80\x00\x00\x00") }), ErrTooLarge},
		{"one file too large", archive(t, file("x", strings.Repeat("x", 2049))), ErrTooLarge},
		{"all files too large", archive(t, chain...), ErrTooLarge},
		{"too many files", archive(t, many...), ErrTooLarge},
		{"too many folders implied", archive(t, mostlyFolders...), ErrTooLarge},
		{"too many comments", bytes.Repeat(block(magicUSTAR, tar.TypeXGlobalHeader, "g", 0, nil), 21), ErrTooLarge},
		{"too deep", archive(t, file(deep, "")), ErrTooLarge},
		{"name too long", archive(t, file(strings.Repeat(strings.Repeat("a", 250)+"/", 5)+"a", "")), ErrTooLarge},
		{"element too long", archive(t, file(strings.Repeat("a", 256), "")), ErrTooLarge},
		{"target too long", archive(t, link(tar.TypeSymlink, "l", strings.Repeat("a/", 600))), ErrTooLarge},
		{"garbage after the end", append(archive(t, file("a", "1")), bytes.Repeat([]byte("x"), maxTrailing+1024)...), ErrTooLarge},

		{"garbage", bytes.Repeat([]byte("garbage!"), 128), ErrMalformed},
		{"cut in the content", archive(t, file("a", strings.Repeat("x", 1000)))[:700], ErrMalformed},
		{"cut in a header", archive(t, file("a", ""))[:100], ErrMalformed},
		{"negative size", block(magicUSTAR, tar.TypeReg, "x", 0, func(b []byte) { copy(b[124:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }), ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, t.TempDir())
			digest, err := Unpack(context.Background(), s.target, bytes.NewReader(tt.data), small())
			if !errors.Is(err, tt.want) || (err != nil) != (digest == "") {
				t.Errorf("got %q, %v; want %v", digest, err, tt.want)
			}
			s.check(t)

			// A wrong source leaves nothing at all, however the digest was made.
			s = newSite(t, t.TempDir())
			tree{"old": "old"}.write(t, s.target)
			err = UnpackVerified(context.Background(), s.target, bytes.NewReader(tt.data), digestOf(tt.data), small())
			if !errors.Is(err, tt.want) || errors.Is(err, ErrDigest) {
				t.Errorf("UnpackVerified: got %v, want %v", err, tt.want)
			}
			s.check(t)
			if got := readTree(t, s.target); tt.want != nil && !maps.Equal(got, tree{"old": "old"}) {
				t.Errorf("the target became %q", got)
			}
		})
	}
}

func digestOf(data []byte) events.SourceDigest {
	sum := sha256.Sum256(data)
	return events.SourceDigest(hex.EncodeToString(sum[:]))
}

func TestUnpackAccepts(t *testing.T) {
	suid := file("suid", "s")
	suid.Mode = 0o6755
	tests := []struct {
		name string
		data []byte
		want tree
	}{
		{"nothing", archive(t), tree{}},
		{"plain tar", archive(t, folder("./"), folder("./a/"), file("./a/b", "b")), tree{"a/b": "b"}},
		{"folders implied", archive(t, file("a/b/c", "c"), folder("a"), folder("a/b/"), folder("a")), tree{"a/b/c": "c"}},
		{"permissions dropped", archive(t, suid), tree{"suid*": "s"}},
		{"links that stay", archive(t, link(tar.TypeSymlink, "a/l", "../b"), file("b", "b"), link(tar.TypeSymlink, "n", "no/where")),
			tree{"a/l@": "../b", "b": "b", "n@": "no/where"}},
		{"links in a circle", archive(t, link(tar.TypeSymlink, "a", "b"), link(tar.TypeSymlink, "b", "a/x")), tree{"a@": "b", "b@": "a/x"}},
		{"hard links", archive(t, file("a", "a"), link(tar.TypeLink, "b", "./a"), link(tar.TypeLink, "c", "b")), tree{"a": "a", "b": "a", "c": "a"}},
		{"comment of git", append(block(magicUSTAR, tar.TypeXGlobalHeader, "pax_global_header", 0, nil), archive(t, file("a", "a"))...), tree{"a": "a"}},
		{"no end", archive(t, file("a", "a"))[:1024], tree{"a": "a"}},
		{"garbage after the end", append(archive(t, file("a", "a")), "garbage"...), tree{"a": "a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, t.TempDir())
			digest, err := Unpack(context.Background(), s.target, iotest.OneByteReader(bytes.NewReader(tt.data)), small())
			if err != nil || digest != digestOf(tt.data) {
				t.Errorf("got %q, %v", digest, err)
			}
			if got := readTree(t, s.target); !maps.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			s.check(t)
		})
	}
}

func TestUnpackNeedsEmptyFolder(t *testing.T) {
	dir := tree{"x": ""}.folder(t)
	if _, err := Unpack(context.Background(), dir, bytes.NewReader(nil), Limits{}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("got %v, want %v", err, ErrNotEmpty)
	}
}

// TestUnpackReadErrors checks that a failing transfer is not taken for a bad source.
func TestUnpackReadErrors(t *testing.T) {
	data := archive(t, file("a", strings.Repeat("a", 100_000)), file("b", "b"))
	broken := errors.New("connection lost")
	for _, cut := range []int{0, 10, 600, 70_000, len(data)} {
		r := io.MultiReader(bytes.NewReader(data[:cut]), iotest.ErrReader(broken))
		_, err := Unpack(context.Background(), t.TempDir(), r, Limits{})
		if !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: got %v, want %v", cut, err, broken)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Unpack(ctx, t.TempDir(), bytes.NewReader(data), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestUnpackEndless checks that a reader without end is left at the limit.
func TestUnpackEndless(t *testing.T) {
	block := make([]byte, 64<<10) // Zeros after the end of the archive.
	if _, err := Unpack(context.Background(), t.TempDir(), endless(block), small()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

type endless []byte

func (e endless) Read(b []byte) (int, error) { return copy(b, e), nil }

func TestUnpackVerified(t *testing.T) {
	data := archive(t, file("Dockerfile", "FROM scratch"), folder("d"))
	want := tree{"Dockerfile": "FROM scratch", "d/": ""}
	s := newSite(t, t.TempDir())
	unpack := func(data []byte, digest events.SourceDigest) error {
		return UnpackVerified(context.Background(), s.target, bytes.NewReader(data), digest, small())
	}
	steps := []struct {
		name string
		run  func() error
		err  error
		want tree
	}{
		{"another digest", func() error { return unpack(data, digestOf(nil)) }, ErrDigest, tree{}},
		{"no digest", func() error { return unpack(data, "abc") }, events.ErrInvalidID, tree{}},
		{"right", func() error { return unpack(data, digestOf(data)) }, nil, want},
		{"again", func() error { return unpack(data, digestOf(data)) }, nil, want},
		{"damaged", func() error { return unpack(data[:700], digestOf(data)) }, ErrDigest, want},
		{"one byte more", func() error { return unpack(append(data[:len(data):len(data)], 'x'), digestOf(data)) }, ErrDigest, want},
		{"another source", func() error { d := archive(t, file("b", "")); return unpack(d, digestOf(d)) }, nil, tree{"b": ""}},
		{"no folder before", func() error { os.RemoveAll(s.target); return unpack(data, digestOf(data)) }, nil, want},
	}
	for _, step := range steps {
		if err := step.run(); !errors.Is(err, step.err) {
			t.Errorf("%s: got %v, want %v", step.name, err, step.err)
		}
		if got := readTree(t, s.target); !maps.Equal(got, step.want) {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
		s.check(t)
	}
}

func TestUnpackVerifiedRemovesLeftovers(t *testing.T) {
	s := newSite(t, t.TempDir())
	tree{".src.unpack-A/x": "", ".src.unpack-B/y/z": "", "src/old": ""}.write(t, s.outer)
	data := archive(t, file("new", ""))
	if err := UnpackVerified(context.Background(), s.target, bytes.NewReader(data), digestOf(data), Limits{}); err != nil {
		t.Fatal(err)
	}
	s.check(t)
	if got := readTree(t, s.target); !maps.Equal(got, tree{"new": ""}) {
		t.Errorf("got %q", got)
	}
}

// TestUnpackVerifiedReplacesLink checks that a link in the place of the folder is replaced, not followed.
func TestUnpackVerifiedReplacesLink(t *testing.T) {
	s := newSite(t, t.TempDir())
	if err := errors.Join(os.Remove(s.target), os.Symlink("other", s.target)); err != nil {
		t.Fatal(err)
	}
	data := archive(t, file("new", ""))
	if err := UnpackVerified(context.Background(), s.target, bytes.NewReader(data), digestOf(data), Limits{}); err != nil {
		t.Fatal(err)
	}
	s.check(t)
}

func TestUnpackDiskErrorStaysVisible(t *testing.T) {
	dir := t.TempDir()
	data := archive(t, file("a", "a"))
	err := UnpackVerified(context.Background(), filepath.Join(dir, "none", "src"), bytes.NewReader(data), digestOf(data), Limits{})
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v, want ENOENT", err)
	}
}

// TestLinksEntangled checks that links made to take long are refused soon.
func TestLinksEntangled(t *testing.T) {
	l := links{}
	for i := range 20_000 {
		l[fmt.Sprint("l", i)] = strings.Repeat("l0/", 300)
	}
	if err := l.check(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

// FuzzUnpack checks that no input writes, or leads, out of the folder, breaks a bound, or gives an unknown error.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, file("a/b", "b"), folder("c"), link(tar.TypeSymlink, "l", "a/b"), link(tar.TypeLink, "h", "a/b")))
	f.Add(archive(f, file("../canary", "dead")))
	f.Add(archive(f, link(tar.TypeSymlink, "l", ".."), file("l/canary", "dead")))
	f.Add(archive(f, link(tar.TypeSymlink, "a", "b/.."), link(tar.TypeSymlink, "b", "a/..")))
	f.Add(archive(f, link(tar.TypeLink, "h", "../canary"), file("h", "dead")))
	f.Add(archive(f, file(strings.Repeat("long/", 30)+"x", "x")))
	f.Add(oldSparse())
	f.Add(paxSparse())
	base := f.TempDir()
	runs := 0
	f.Fuzz(func(t *testing.T, data []byte) {
		runs++
		outer := filepath.Join(base, fmt.Sprint(runs))
		s := newSite(t, outer)
		defer os.RemoveAll(outer)
		for _, at := range sums(data) { // A mutated header is worth nothing without its sum.
			fixSum(data[at : at+512])
		}
		_, err := Unpack(context.Background(), s.target, bytes.NewReader(data), small())
		s.check(t)
		got := readTree(t, s.target)
		total := 0
		for _, content := range got {
			total += len(content)
		}
		if len(got) > 20 || total > 20*maxName+4096 {
			t.Errorf("%d entries, %d bytes", len(got), total)
		}
		known := []error{ErrTooLarge, ErrUnsafePath, ErrUnsupportedEntry, ErrMalformed}
		if err != nil && !slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }) {
			t.Errorf("error %v", err)
		}
	})
}

// sums finds the blocks that look like headers.
func sums(data []byte) []int {
	var at []int
	for i := 0; i+512 <= len(data); i += 512 {
		if string(data[i+257:i+262]) == "ustar" {
			at = append(at, i)
		}
	}
	return at
}

func fixSum(b []byte) {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
}
