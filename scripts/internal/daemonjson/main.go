// Command daemonjson registers a runtime in the Docker daemon's configuration file and keeps everything else in it,
// whether it knows it or not.
//
//	daemonjson FILE NAME PATH [ARG...]
//
// A runtime that is registered already keeps its path and its options; only the ARGs that it lacks are added. It is a
// Go program because a fresh machine has neither jq nor Python, and because rewriting JSON with sed is how settings
// get lost.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: daemonjson FILE NAME PATH [ARG...]")
		os.Exit(2)
	}
	if err := registerInFile(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, "daemonjson:", err)
		os.Exit(1)
	}
}

// registerInFile rewrites file, unless it says already what is wanted. A missing file counts as an empty one.
func registerInFile(file, name, path string, args []string) error {
	// An administrator may keep the file elsewhere behind a link; the link has to survive the rename below.
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	mode := fs.FileMode(0o644)
	old, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	}
	config, changed, err := register(old, name, path, args)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !changed {
		return nil
	}
	return replaceFile(file, config, mode)
}

// object is a JSON object of which only the touched members are decoded: numbers, nulls and members of later Docker
// versions pass through as they were written.
type object map[string]json.RawMessage

// register returns the configuration with the runtime in it, and whether that differs from what was there.
func register(config []byte, name, path string, args []string) ([]byte, bool, error) {
	root, err := decodeObject(config)
	if err != nil {
		return nil, false, err
	}
	runtimes, err := decodeObject(root["runtimes"])
	if err != nil {
		return nil, false, fmt.Errorf("runtimes: %w", err)
	}
	_, known := runtimes[name]
	runtime, err := decodeObject(runtimes[name])
	if err != nil {
		return nil, false, fmt.Errorf("runtimes: %s: %w", name, err)
	}
	changed, err := complete(runtime, known, path, args)
	if err != nil || !changed {
		return config, false, err
	}
	if runtimes[name], err = encode(runtime); err != nil {
		return nil, false, err
	}
	if root["runtimes"], err = encode(runtimes); err != nil {
		return nil, false, err
	}
	out, err := encode(root)
	return out, true, err
}

// complete gives a new runtime its path, and any runtime the arguments that it lacks.
func complete(runtime object, known bool, path string, args []string) (changed bool, err error) {
	if !known {
		if runtime["path"], err = encode(path); err != nil {
			return false, err
		}
		changed = true
	}
	var have []string
	if raw, ok := runtime["runtimeArgs"]; ok {
		if err := json.Unmarshal(raw, &have); err != nil {
			return false, fmt.Errorf("runtimeArgs: %w", err)
		}
	}
	before := len(have)
	for _, arg := range args {
		if !slices.Contains(have, arg) {
			have = append(have, arg)
		}
	}
	if len(have) > before {
		changed = true
		runtime["runtimeArgs"], err = encode(have)
	}
	return changed, err
}

// decodeObject reads a JSON object; nothing at all and null are empty ones, as they are for the daemon.
func decodeObject(raw []byte) (object, error) {
	o := object{}
	if len(bytes.TrimSpace(raw)) == 0 {
		return o, nil
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	if o == nil {
		o = object{}
	}
	return o, nil
}

// encode writes JSON for people to read, without turning <, > and & into escapes.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// replaceFile swaps the file in one step: a daemon that starts meanwhile reads the old or the new one, never half.
func replaceFile(file string, data []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".daemon-*.json")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = tmp.Close(), os.Remove(tmp.Name()) // The first error says more.
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
