package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// The bounds of .dockerignore: its patterns are tried on every entry, and they come from the same hands as the source.
const (
	maxIgnoreBytes    = 64 << 10
	maxIgnorePatterns = 1000
)

// ignore decides which entries are left out, as the docker command line does: of all patterns that match an entry or a
// folder above it the last one counts, and the Dockerfile and .dockerignore itself are always sent.
type ignore struct {
	matcher *patternmatcher.PatternMatcher
	always  []string
}

func readIgnore(root *os.Root, dockerfile string) (*ignore, error) {
	patterns, err := readPatterns(root)
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidIgnore, err)
	}
	return &ignore{matcher: matcher, always: []string{dockerfile, ignoreName}}, nil
}

func readPatterns(root *os.Root) ([]string, error) {
	f, info, err := openFile(root, ignoreName, root.Stat) // It may be a link within the folder.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > maxIgnoreBytes {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrInvalidIgnore, maxIgnoreBytes)
	}
	patterns, err := ignorefile.ReadAll(io.LimitReader(f, maxIgnoreBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidIgnore, err)
	}
	if slices.ContainsFunc(patterns, func(p string) bool { return !utf8.ValidString(p) }) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrInvalidIgnore)
	}
	if len(patterns) > maxIgnorePatterns {
		return nil, fmt.Errorf("%w: it has more than %d patterns", ErrInvalidIgnore, maxIgnorePatterns)
	}
	return patterns, nil
}

// match reports whether the entry is left out, given what was found for the folder that holds it.
func (g *ignore) match(name string, parent patternmatcher.MatchInfo) (bool, patternmatcher.MatchInfo, error) {
	ignored, info, err := g.matcher.MatchesUsingParentResults(name, parent)
	if err != nil {
		return false, info, fmt.Errorf("%w: %w", ErrInvalidIgnore, err)
	}
	for _, kept := range g.always {
		if name == kept {
			return false, info, nil
		}
	}
	return ignored, info, nil
}

// mayHold reports whether a folder that is left out may hold something that is not. It may say so in vain, never the
// other way round.
func (g *ignore) mayHold(dir string) bool {
	for _, kept := range g.always {
		if strings.HasPrefix(kept, dir+"/") {
			return true
		}
	}
	for _, pattern := range g.matcher.Patterns() {
		if pattern.Exclusion() && mayMatchBelow(filepath.ToSlash(pattern.String()), dir) {
			return true
		}
	}
	return false
}

func mayMatchBelow(pattern, dir string) bool {
	// These may match a slash, or, as the library makes a regular expression of them, anything else: it leaves | and { as they are.
	if strings.Contains(pattern, "**") || strings.ContainsAny(pattern, `[\|{`) {
		return true
	}
	elements, dirs := strings.Split(pattern, "/"), strings.Split(dir, "/")
	if len(elements) <= len(dirs) {
		return false
	}
	for i, name := range dirs {
		if matched, err := filepath.Match(elements[i], name); err == nil && !matched {
			return false
		}
	}
	return true
}
