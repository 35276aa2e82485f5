package events

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxEventBytes is the largest event on the wire, headers included; the server refuses a larger one.
	MaxEventBytes = 64 << 10
	// MaxText is the longest error or reason in an event, in bytes; Encode cuts longer ones, and keeps both ends.
	MaxText = 4 << 10

	maxRefLen = 256 // Container and image references.
	maxKeys   = 32  // Keys of one JSON object; the largest event has fewer than ten.
	maxDepth  = 4   // Nesting of JSON values; the deepest event has two.
	maxReason = 512 // Bytes of the reason that Decode gives; it quotes what it was given.
)

var (
	// ErrUnknownType says that a subject ends in something that is no event type.
	ErrUnknownType = errors.New("unknown event type")
	// ErrMalformed says that the bytes are not an event of the type that the subject names.
	ErrMalformed = errors.New("malformed event")
)

// Encode returns the wire form of an event. Texts are cut to MaxText and made valid UTF-8, so that a result can always
// be published, whatever a program or a daemon printed.
func Encode(ev Event) ([]byte, error) {
	data, err := json.Marshal(clipTexts(ev))
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", ev.Type(), err)
	}
	return data, nil
}

// Decode reads an event of a program from the wire. It is total and strict: unknown fields, repeated keys, wrong types,
// null, missing values and identifiers that do not parse are errors that wrap ErrMalformed; a type that is not in this
// package is ErrUnknownType. Their texts are short, whatever was given. A user event without ProgramID gets that of its
// subject, which is id. Texts are cut as Encode cuts them, so that what follows from an event is as bounded as the event.
func Decode(id ProgramID, typ Type, data []byte) (Event, error) {
	decode := decoderOf(typ)
	if decode == nil {
		return nil, fmt.Errorf("%w %s", ErrUnknownType, quote(string(typ)))
	}
	ev, err := decodeStrictly(data, requiredKeys(typ), decode)
	if err == nil {
		ev, err = validate(id, ev)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, shorten(err.Error()))
	}
	return clipTexts(ev), nil
}

func decodeStrictly(data []byte, required []string, decode func([]byte) (Event, error)) (Event, error) {
	keys, err := checkJSON(data)
	if err != nil {
		return nil, err
	}
	for _, key := range required {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
			return nil, fmt.Errorf("it has no %s", quote(key))
		}
	}
	return decode(data)
}

// requiredKeys are the fields whose zero value means something, so that a missing one must not be taken for it: an exit
// without a code is no exit with code 0. Where the zero value is not allowed, validate refuses it.
func requiredKeys(typ Type) []string {
	switch typ {
	case TypeFoldersEnsured, TypeBuildFinished, TypeStopFinished:
		return []string{"success"}
	case TypeStartFailed:
		return []string{"reason"}
	case TypeRuntimeExited:
		return []string{"exitCode"}
	}
	return nil
}

func decoderOf(typ Type) func([]byte) (Event, error) {
	switch typ {
	case TypeProgramCreated:
		return decodeAs[ProgramCreated]
	case TypeHostLost:
		return decodeAs[HostLost]
	case TypeHostDrained:
		return decodeAs[HostDrained]
	case TypeUserStartRequested:
		return decodeAs[UserStartRequested]
	case TypeUserStopRequested:
		return decodeAs[UserStopRequested]
	case TypeUserRestartRequested:
		return decodeAs[UserRestartRequested]
	case TypeFoldersEnsured:
		return decodeAs[FoldersEnsured]
	case TypeBuildFinished:
		return decodeAs[BuildFinished]
	case TypeRuntimeStarted:
		return decodeAs[RuntimeStarted]
	case TypeStartFailed:
		return decodeAs[StartFailed]
	case TypeRuntimeExited:
		return decodeAs[RuntimeExited]
	case TypeStopFinished:
		return decodeAs[StopFinished]
	}
	return nil
}

func decodeAs[T Event](data []byte) (Event, error) {
	var ev T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ev); err != nil {
		return nil, err
	}
	return ev, nil
}

// checkJSON refuses what encoding/json would let pass in silence: invalid UTF-8, null in place of a value, repeated keys
// (also those that differ in case only, since matching ignores case), and anything after the object. It returns the keys
// of the object.
func checkJSON(data []byte) ([]string, error) {
	switch {
	case len(data) == 0:
		return nil, errors.New("it is empty; the shortest event is {}")
	case len(data) > MaxEventBytes:
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxEventBytes)
	case !utf8.Valid(data):
		return nil, errors.New("it is not valid UTF-8")
	case !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")):
		return nil, errors.New("it is not a JSON object")
	case !json.Valid(data):
		return nil, errors.New("it is not valid JSON")
	}
	return checkKeys(json.NewDecoder(bytes.NewReader(data)), 0)
}

// checkKeys reads one value, which is known to be valid JSON, and returns its keys where it is an object.
func checkKeys(dec *json.Decoder, depth int) ([]string, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	dec.UseNumber()
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if token == nil {
		return nil, errors.New("null is not a value")
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil, nil
	}
	var keys []string
	for dec.More() {
		if delim == '{' {
			if keys, err = nextKey(dec, keys); err != nil {
				return nil, err
			}
		}
		if _, err := checkKeys(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token() // The closing bracket.
	return keys, err
}

func nextKey(dec *json.Decoder, seen []string) ([]string, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	key, _ := token.(string)
	if len(seen) == maxKeys {
		return nil, fmt.Errorf("an object has more than %d keys", maxKeys)
	}
	for _, other := range seen {
		if strings.EqualFold(key, other) {
			return nil, fmt.Errorf("key %s is there twice", quote(key))
		}
	}
	return append(seen, key), nil
}

// validate checks what the types cannot say. Nothing that reaches a path, a subject or Docker is taken on trust.
func validate(id ProgramID, ev Event) (Event, error) {
	switch e := ev.(type) {
	case ProgramCreated:
		return e, validateCreated(id, e)
	case HostLost:
		_, err := ParseHostID(string(e.HostID))
		return e, err
	case HostDrained:
		_, err := ParseHostID(string(e.HostID))
		return e, err
	case UserStartRequested:
		return UserStartRequested{ProgramID: id}, sameProgram(id, e.ProgramID)
	case UserStopRequested:
		return UserStopRequested{ProgramID: id}, sameProgram(id, e.ProgramID)
	case UserRestartRequested:
		return UserRestartRequested{ProgramID: id}, sameProgram(id, e.ProgramID)
	case FoldersEnsured:
		return e, e.Origin.validate()
	case BuildFinished:
		if e.Success {
			return e, cmp.Or(e.Origin.validate(), checkRef("imageId", e.ImageID))
		}
		return e, e.Origin.validate()
	case RuntimeStarted:
		return e, cmp.Or(e.Origin.validate(), checkRef("containerId", e.ContainerID))
	case StartFailed:
		return e, e.Origin.validate()
	case RuntimeExited:
		return e, cmp.Or(e.Origin.validate(), checkOptionalRef("containerId", e.ContainerID))
	case StopFinished:
		return e, cmp.Or(e.Origin.validate(), checkOptionalRef("containerId", e.ContainerID))
	}
	return ev, nil
}

func validateCreated(id ProgramID, e ProgramCreated) error {
	build, err := NewBuildID(e.SourceDigest)
	if err != nil {
		return err
	}
	if e.BuildID != build {
		return fmt.Errorf("build ID %s is not that of source digest %s", quote(string(e.BuildID)), e.SourceDigest)
	}
	if own := id.Build(); own != build {
		return fmt.Errorf("build ID %s is not that of the program", e.BuildID)
	}
	return e.Limits.Validate()
}

// MinMemoryBytes is the least memory limit that Docker takes.
const MinMemoryBytes = 6 << 20

// MinCPUMillis is the least CPU limit that Docker takes. Validate does not know it, since logs are there with less: who makes a program
// is told.
const MinCPUMillis = 10

// Validate refuses limits that no host could mean: negative ones, and less memory than Docker accepts.
func (l Limits) Validate() error {
	switch {
	case l.MemoryBytes < 0:
		return fmt.Errorf("the limit memoryBytes is negative: %d", l.MemoryBytes)
	case l.CPUMillis < 0:
		return fmt.Errorf("the limit cpuMillis is negative: %d", l.CPUMillis)
	case l.Pids < 0:
		return fmt.Errorf("the limit pids is negative: %d", l.Pids)
	case l.MemoryBytes > 0 && l.MemoryBytes < MinMemoryBytes:
		return fmt.Errorf("the limit memoryBytes is %d, less than %d", l.MemoryBytes, MinMemoryBytes)
	}
	return nil
}

func (o Origin) validate() error {
	if o.HostID == "" {
		return nil
	}
	_, err := ParseHostID(string(o.HostID))
	return err
}

func sameProgram(subject, field ProgramID) error {
	if field != "" && field != subject {
		return fmt.Errorf("programId %s is not the program of the subject", quote(string(field)))
	}
	return nil
}

func checkOptionalRef(field, ref string) error {
	if ref == "" {
		return nil
	}
	return checkRef(field, ref)
}

// checkRef accepts what Docker uses as container and image references.
func checkRef(field, ref string) error {
	if ref == "" || len(ref) > maxRefLen {
		return fmt.Errorf("%s %s is not 1 to %d characters long", field, quote(ref), maxRefLen)
	}
	for i := range len(ref) {
		c := ref[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-:/@", rune(c))) {
			return fmt.Errorf("%s %s is not a Docker reference", field, quote(ref))
		}
	}
	return nil
}

func clipTexts(ev Event) Event {
	switch e := ev.(type) {
	case HostLost:
		e.Reason = Clip(e.Reason)
		return e
	case FoldersEnsured:
		e.Error = Clip(e.Error)
		return e
	case BuildFinished:
		e.Error = Clip(e.Error)
		return e
	case StartFailed:
		e.Reason = Clip(e.Reason)
		return e
	case RuntimeExited:
		e.Reason = Clip(e.Reason)
		return e
	case StopFinished:
		e.Error = Clip(e.Error)
		return e
	}
	return ev
}

// Clip makes s valid UTF-8 of at most MaxText bytes. Of a longer text both ends stay, since an error says first what was
// tried and last what went wrong.
func Clip(s string) string {
	const gap = " … "
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxText {
		return s
	}
	half := (MaxText - len(gap)) / 2
	head, tail := s[:half], s[len(s)-half:]
	return strings.ToValidUTF8(head, "") + gap + strings.ToValidUTF8(tail, "")
}

// shorten cuts a reason that quotes its input to a length that a line of a history can show.
func shorten(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}
