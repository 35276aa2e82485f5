package hersh_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// picture says which package may import what; docs/architecture.md explains it. A name that ends in "/..." stands for a
// folder and all below it; the most exact row counts. "core" is events, effects and reducer; "any" is everything that is no
// test support. Tests may import more, see mayTestImport. cmd/hersh alone has test support in it: "hersh sim" lets people run the
// simulation by its seeds, without the sources.
const picture = `
package                      | of Hersh                                                       | of others
.                            |                                                                |
── pure core: no I/O, no clock, no goroutine
events                       |                                                                | uuid
effects                      | events                                                         |
reducer                      | events effects                                                 |
── adapters: one technology each, none imports another's technology
effects/compose              | events                                                         |
effects/storage              | events internal/source                                         |
effects/runtime              | events effects/compose internal/source internal/pause          | docker
effects/host                 | events effects effects/compose effects/storage effects/runtime internal/pause |
internal/source              | events                                                         | patternmatcher
internal/bus                 | core internal/pause                                            | nats
internal/pause               |                                                                |
internal/keylock             |                                                                |
internal/natsserver          |                                                                | nats-server
internal/tenants             | events                                                         | nats
── loops: they declare the interfaces they need
program                      | core                                                           |
internal/supervisor          | core                                                           | prometheus
internal/executor            | core internal/keylock                                          | prometheus
── services: wiring, flags, signals
internal/service             |                                                                | prometheus sys
internal/service/supervisord | any                                                            | nats prometheus
internal/service/executord   | any                                                            | nats prometheus
internal/api                 | core internal/supervisor internal/bus client/wire internal/pause internal/keylock | nats prometheus
cmd/...                      | any                                                            | nats prometheus kong uuid
cmd/hersh                    | any internal/sim/...                                           | nats prometheus kong uuid
── outside
client/wire                  | events reducer                                                 |
client                       | core client/wire internal/bus internal/source                  | nats uuid
examples/...                 | any                                                            | any
scripts/...                  |                                                                |
── test support: imported by tests only
effects/handlertest          | core                                                           |
internal/bus/bustest         | any support                                                    | rapid
internal/dockertest/...      | any support                                                    |
internal/natstest/...        | any support                                                    | nats nats-server prometheus
internal/sim/...             | any support                                                    | rapid prometheus
internal/e2e/...             | any support                                                    | any
internal/attack              | any support                                                    | any
internal/chaos/...           | any support                                                    | nats prometheus
internal/chaos/disk          |                                                                | fuse
`

// modules are the modules of others, by the names that the picture has for them. All that are not named here may not be
// imported at all.
func modules() map[string][]string {
	return map[string][]string{
		"uuid":           {"github.com/google/uuid"},
		"docker":         {"github.com/docker/", "github.com/containerd/errdefs", "github.com/opencontainers/", "github.com/distribution/reference"},
		"patternmatcher": {"github.com/moby/patternmatcher"},
		"nats":           {"github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/synadia-io/orbit.go"},
		"nats-server":    {"github.com/nats-io/nats-server/v2"},
		"prometheus":     {"github.com/prometheus/"},
		"sys":            {"golang.org/x/sys"},
		"kong":           {"github.com/alecthomas/kong", "golang.org/x/term"},
		"fuse":           {"github.com/hanwen/go-fuse/v2"},
		"rapid":          {"pgregory.net/rapid"},
		"goleak":         {"go.uber.org/goleak"},
		"testscript":     {"github.com/rogpeppe/go-internal"},
	}
}

const (
	hersh       = "github.com/rlaaudgjs5638/hersh"
	supportLine = "── test support"
	coreLine    = "── pure core"
)

// rule is a row of the picture.
type rule struct {
	pkg, layer  string
	own, others []string
}

// TestLayers fails on an import that the picture does not have.
func TestLayers(t *testing.T) {
	rules := parsePicture(t)
	files := goFiles(t)
	for _, file := range files {
		r, found := ruleOf(rules, file.pkg)
		if !found {
			t.Errorf("%s: the picture does not know package %s; give it a row in layering_test.go, in the layer that it belongs to, "+
				"and draw it in docs/architecture.md", file.name, file.pkg)
			continue
		}
		for _, spec := range file.ast.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			if why := refuse(rules, r, file, target); why != "" {
				t.Errorf("%s: package %s (%s) may not import %s: %s", file.name, file.pkg, r.layer, target, why)
			}
		}
	}
	if len(files) < 30 {
		t.Errorf("found %d Go files, which cannot be all", len(files))
	}
}

// refuse returns why a file may not import a package, or "".
func refuse(rules []rule, r rule, file goFile, target string) string {
	if own, isOwn := ownPackage(target); isOwn {
		to, found := ruleOf(rules, own)
		switch {
		case !found:
			return "the picture does not know it"
		case own == file.pkg || mayImportOwn(r, to):
			return ""
		case file.isTest && mayTestImport(r, to):
			return ""
		}
		return "the picture has no such arrow"
	}
	if first, _, _ := strings.Cut(target, "/"); !strings.Contains(first, ".") {
		return "" // The standard library; see TestCoreIsPure.
	}
	name := moduleName(target)
	testing := []string{"rapid", "goleak", "testscript", "nats-server"}
	switch {
	case slices.Contains(r.others, "any"), name != "" && slices.Contains(r.others, name):
		return ""
	case file.isTest && slices.Contains(testing, name), file.isTest && name == "prometheus" && !r.isCore():
		return ""
	case name == "":
		return "it is of no module that the table in layering_test.go names"
	}
	return "the picture does not give it " + name
}

func mayImportOwn(r, to rule) bool {
	switch {
	case slices.Contains(r.own, to.pkg):
		return true
	case to.isSupport():
		return slices.Contains(r.own, "support")
	case to.isCore() && slices.Contains(r.own, "core"):
		return true
	}
	return slices.Contains(r.own, "any")
}

// mayTestImport lets tests import test support, and wire together what they like; those of the core stay within the core.
func mayTestImport(r, to rule) bool {
	return !r.isCore() || to.isCore() || to.pkg == "effects/handlertest"
}

// TestCoreIsPure keeps the world out of the core. Its tests may do as they like.
func TestCoreIsPure(t *testing.T) {
	rules := parsePicture(t)
	checked := 0
	for _, file := range goFiles(t) {
		if r, _ := ruleOf(rules, file.pkg); !r.isCore() || file.isTest {
			continue
		}
		checked++
		for _, spec := range file.ast.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			if worldly(target) {
				t.Errorf("%s imports %s: the core has no I/O, no randomness and no locks", file.name, target)
			}
			if target == "time" && spec.Name != nil {
				t.Errorf("%s imports time by another name, and hides its clock from this test", file.name)
			}
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			if why := impure(n); why != "" {
				t.Errorf("%s: %s", file.set.Position(n.Pos()), why)
			}
			return true
		})
	}
	if checked < 10 {
		t.Errorf("found %d files of the core, which cannot be all", checked)
	}
}

// worldly reports whether a standard package does I/O, is random, or is for goroutines that share memory.
func worldly(target string) bool {
	for _, bad := range []string{"os", "net", "sync", "math/rand", "crypto/rand", "syscall", "unsafe", "log", "io/ioutil", "runtime", "embed", "plugin", "C"} {
		if target == bad || strings.HasPrefix(target, bad+"/") {
			return true
		}
	}
	return false
}

func impure(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "the core starts no goroutine"
	case *ast.SelectorExpr:
		clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "Local"}
		if of, ok := n.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(clock, n.Sel.Name) {
			return "the core does not read the clock: time." + n.Sel.Name
		}
	}
	return ""
}

// TestPictureRefuses checks the test itself: arrows that must never be are refused, and some that are needed are not.
func TestPictureRefuses(t *testing.T) {
	rules := parsePicture(t)
	for _, c := range []struct {
		from, to string
		isTest   bool
		refused  bool
	}{
		{"events", hersh + "/effects", false, true},
		{"effects", hersh + "/reducer", false, true},
		{"reducer", hersh + "/effects", false, false},
		{"reducer", hersh + "/internal/bus", false, true},
		{"reducer", hersh + "/internal/bus", true, true},
		{"reducer", "github.com/google/uuid", false, true},
		{"events", "github.com/google/uuid", false, false},
		{"events", "github.com/prometheus/client_golang/prometheus", true, true},
		{"effects/compose", "github.com/docker/docker/client", false, true},
		{"effects/host", "github.com/docker/docker/client", false, true},
		{"effects/host", "github.com/docker/docker/client", true, true},
		{"effects/runtime", "github.com/docker/docker/client", false, false},
		{"effects/runtime", "github.com/nats-io/nats.go", false, true},
		{"internal/bus", "github.com/nats-io/nats.go/jetstream", false, false},
		{"internal/bus", "github.com/nats-io/nats-server/v2/server", false, true},
		{"internal/bus", "github.com/nats-io/nats-server/v2/server", true, false},
		{"internal/bus", hersh + "/internal/natstest", false, true},
		{"internal/bus", hersh + "/internal/natstest", true, false},
		{"internal/supervisor", hersh + "/internal/bus", false, true},
		{"internal/supervisor", "github.com/nats-io/nats.go", false, true},
		{"internal/supervisor", "github.com/nats-io/nats.go", true, true},
		{"program", hersh + "/effects/host", false, true},
		{"cmd/hersh", hersh + "/internal/natsserver", false, false},
		{"cmd/hersh", hersh + "/internal/natstest", false, true},
		{"cmd/hersh", "example.com/new/thing", false, true},
		{"examples/lifecycle", hersh + "/effects/host", false, false},
		{"internal/e2e", "github.com/docker/docker/client", true, false},
		{"events", hersh + "/internal/unheard", false, true},
	} {
		r, found := ruleOf(rules, c.from)
		if !found {
			t.Fatalf("the picture does not know %s", c.from)
		}
		if why := refuse(rules, r, goFile{pkg: c.from, isTest: c.isTest}, c.to); (why != "") != c.refused {
			t.Errorf("%s imports %s (in a test: %v): refused %q", c.from, c.to, c.isTest, why)
		}
	}
	if _, found := ruleOf(rules, "internal/unheard"); found {
		t.Error("the picture knows a package that is not in it")
	}
}

func (r rule) isCore() bool    { return strings.HasPrefix(r.layer, coreLine) }
func (r rule) isSupport() bool { return strings.HasPrefix(r.layer, supportLine) }

// parsePicture reads the rows, and checks that they name only rows and modules that exist.
func parsePicture(t *testing.T) []rule {
	t.Helper()
	var rules []rule
	layer := "root"
	for i, line := range strings.Split(strings.TrimSpace(picture), "\n") {
		if strings.HasPrefix(line, "──") {
			layer = line
			continue
		}
		cells := strings.Split(line, "|")
		if i == 0 || len(cells) != 3 {
			continue
		}
		rules = append(rules, rule{
			pkg: strings.TrimSpace(cells[0]), layer: layer, own: strings.Fields(cells[1]), others: strings.Fields(cells[2]),
		})
	}
	for _, r := range rules {
		for _, name := range r.own {
			if _, found := ruleOf(rules, name); !found && name != "core" && name != "any" && name != "support" {
				t.Fatalf("row %s of the picture names %s, which has no row", r.pkg, name)
			}
		}
		for _, name := range r.others {
			if modules()[name] == nil && name != "any" {
				t.Fatalf("row %s of the picture names %s, which is no module of the table", r.pkg, name)
			}
		}
	}
	return rules
}

// ruleOf returns the row of a package: its own, or that of the nearest folder above it that stands for all below.
func ruleOf(rules []rule, pkg string) (rule, bool) {
	for name := pkg; ; name = path.Dir(name) {
		for _, r := range rules {
			if folder, deep := strings.CutSuffix(r.pkg, "/..."); r.pkg == pkg || deep && folder == name {
				return r, true
			}
		}
		if name == "." || name == "/" {
			return rule{}, false
		}
	}
}

// ownPackage returns the folder of a package of this module.
func ownPackage(target string) (string, bool) {
	if target == hersh {
		return ".", true
	}
	return strings.CutPrefix(target, hersh+"/")
}

func moduleName(target string) string {
	for name, prefixes := range modules() {
		for _, prefix := range prefixes {
			if target == prefix || strings.HasPrefix(target, strings.TrimSuffix(prefix, "/")+"/") {
				return name
			}
		}
	}
	return ""
}

// goFile is a Go file of the module.
type goFile struct {
	name   string // Path below the root.
	pkg    string // Folder below the root; "." is the root.
	isTest bool
	set    *token.FileSet
	ast    *ast.File
}

// goFiles parses every Go file of the module, whatever it is built for. Folders that the go command leaves out are left out.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(name)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("read imports: %w", err)
		}
		files = append(files, goFile{
			name: name, pkg: filepath.ToSlash(filepath.Dir(name)), isTest: strings.HasSuffix(name, "_test.go"), set: set, ast: parsed,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// skipFolder returns fs.SkipDir for folders that hold no package of this module.
func skipFolder(name string) error {
	base := filepath.Base(name)
	if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != "." {
		return fs.SkipDir // A module of its own.
	}
	return nil
}
