package compose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxFileBytes bounds a compose file; the largest valid spec, with everything in it escaped, stays below it.
const maxFileBytes = 8 << 20

// MarshalFile returns the compose file of a spec, for docker-compose 1.29 and Compose v2: indented JSON, which is YAML.
// It has no "version", which both do without and v2 warns about. A spec that ValidateSpec refuses gives its error: no
// file of it is to exist.
func MarshalFile(spec *ComposeSpec) ([]byte, error) {
	if err := NewBuilder().ValidateSpec(spec); err != nil {
		return nil, fmt.Errorf("write compose file: %w", err)
	}
	service := spec.Services[ServiceName]
	service.NetworkMode = service.Network() // Compose takes an absent mode for a network of its own.
	service.Restart = restartNo
	data, err := json.MarshalIndent(ComposeSpec{Services: map[string]Service{ServiceName: service}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write compose file: %w", err)
	}
	// Compose puts variables in the place of $NAME, wherever it stands; $$ is a dollar. In JSON a dollar stands in strings only.
	data = bytes.ReplaceAll(data, []byte("$"), []byte("$$"))
	return append(data, '\n'), nil
}

// ParseFile reads a file that MarshalFile wrote, and nothing else: unknown or repeated fields, variables, other orders
// and trailing data are errors that wrap ErrInvalidFile. White space is free. What it returns has passed ValidateSpec.
func ParseFile(data []byte) (*ComposeSpec, error) {
	spec, err := decodeFile(data)
	if err != nil {
		return nil, fmt.Errorf("read compose file: %w: %w", ErrInvalidFile, err)
	}
	want, err := MarshalFile(spec)
	if err != nil {
		return nil, fmt.Errorf("read compose file: %w", err)
	}
	// encoding/json takes the last of repeated keys and ignores their case; Compose does not. Only the canonical form means
	// the same to both.
	var a, b bytes.Buffer
	if err := errors.Join(json.Compact(&a, data), json.Compact(&b, want)); err != nil {
		return nil, fmt.Errorf("read compose file: %w: %w", ErrInvalidFile, err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		return nil, fmt.Errorf("read compose file: %w: it is not in the form that Hersh writes", ErrInvalidFile)
	}
	return spec, nil
}

func decodeFile(data []byte) (*ComposeSpec, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), maxFileBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.ReplaceAll(data, []byte("$$"), []byte("$"))))
	dec.DisallowUnknownFields()
	var spec ComposeSpec
	if err := dec.Decode(&spec); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the object")
	}
	return &spec, nil
}
