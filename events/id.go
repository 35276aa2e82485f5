package events

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Limits of the identifiers, in bytes.
const (
	MaxUserID = 32
	MaxHostID = 63

	buildPrefix   = "build-"
	buildHexLen   = 12
	buildIDLen    = len(buildPrefix) + buildHexLen
	uuidLen       = 36
	digestHexLen  = 64
	anyHostTarget = "any" // Reserved: it names no host but the shared queue, see EffectsSubject.
)

// ErrInvalidID is wrapped by every error of the Parse functions in this package.
var ErrInvalidID = errors.New("invalid identifier")

// UserID names the owner of programs: 1 to 32 characters of a-z, 0-9 and '-', neither starting nor ending with '-'.
type UserID string

// BuildID identifies a build configuration, that is one exact source folder: "build-" and the first 12 hex digits of
// the SourceDigest.
type BuildID string

// ProgramID is the unique identifier of a program instance: "{userID}-{buildID}-{uuid}".
type ProgramID string

// HostID names one executor, usually one Docker host: 1 to 63 characters of a-z, 0-9 and '-', neither starting nor
// ending with '-'. "any" is reserved. The empty HostID means "no host" or "any host", as each field says.
type HostID string

// SourceDigest is the SHA-256 of a source tarball: 64 lower-case hex digits.
type SourceDigest string

// NewBuildID derives the BuildID of a source tarball from its digest.
func NewBuildID(digest SourceDigest) (BuildID, error) {
	if _, err := ParseSourceDigest(string(digest)); err != nil {
		return "", err
	}
	return BuildID(buildPrefix + string(digest[:buildHexLen])), nil
}

// NewProgramID makes a new ProgramID, unique by a random UUID. Both parts must have been parsed before; the result of
// unparsed parts does not pass ParseProgramID.
func NewProgramID(user UserID, build BuildID) ProgramID {
	return ProgramID(string(user) + "-" + string(build) + "-" + uuid.NewString())
}

// ParseUserID checks s and returns it as a UserID.
func ParseUserID(s string) (UserID, error) {
	if err := checkName(s, MaxUserID); err != nil {
		return "", fmt.Errorf("%w: user ID %s", ErrInvalidID, err)
	}
	return UserID(s), nil
}

// ParseHostID checks s and returns it as a HostID.
func ParseHostID(s string) (HostID, error) {
	if err := checkName(s, MaxHostID); err != nil {
		return "", fmt.Errorf("%w: host ID %s", ErrInvalidID, err)
	}
	if s == anyHostTarget {
		return "", fmt.Errorf("%w: host ID %q is reserved", ErrInvalidID, s)
	}
	return HostID(s), nil
}

// ParseSourceDigest checks s and returns it as a SourceDigest.
func ParseSourceDigest(s string) (SourceDigest, error) {
	if !isLowerHex(s, digestHexLen) {
		return "", fmt.Errorf("%w: source digest %s is not %d lower-case hex digits", ErrInvalidID, quote(s), digestHexLen)
	}
	return SourceDigest(s), nil
}

// ParseBuildID checks s and returns it as a BuildID.
func ParseBuildID(s string) (BuildID, error) {
	if !strings.HasPrefix(s, buildPrefix) || !isLowerHex(s[len(buildPrefix):], buildHexLen) {
		return "", fmt.Errorf("%w: build ID %s is not %q and %d lower-case hex digits", ErrInvalidID, quote(s), buildPrefix, buildHexLen)
	}
	return BuildID(s), nil
}

// ParseProgramID checks s and returns it as a ProgramID. What it accepts is safe as a path element, as a subject token,
// as a Docker name and as an image name: it is made of a-z, 0-9 and '-' only.
func ParseProgramID(s string) (ProgramID, error) {
	if _, _, err := splitProgramID(s); err != nil {
		return "", fmt.Errorf("%w: program ID %s: %s", ErrInvalidID, quote(s), err)
	}
	return ProgramID(s), nil
}

// User returns the owner that is part of the ID, or "" when the ID does not pass ParseProgramID.
func (id ProgramID) User() UserID {
	user, _, err := splitProgramID(string(id))
	if err != nil {
		return ""
	}
	return user
}

// Build returns the BuildID that is part of the ID, or "" when the ID does not pass ParseProgramID.
func (id ProgramID) Build() BuildID {
	_, build, err := splitProgramID(string(id))
	if err != nil {
		return ""
	}
	return build
}

// splitProgramID reads from the right, since a user ID may itself hold '-' and even look like a build ID.
func splitProgramID(s string) (UserID, BuildID, error) {
	userLen := len(s) - uuidLen - 1 - buildIDLen - 1
	if userLen < 1 || userLen > MaxUserID {
		return "", "", fmt.Errorf("it is not {user}-{build}-{uuid}")
	}
	user, rest := s[:userLen], s[userLen:]
	build, tail := rest[1:1+buildIDLen], rest[1+buildIDLen:]
	if rest[0] != '-' || tail[0] != '-' {
		return "", "", fmt.Errorf("it is not {user}-{build}-{uuid}")
	}
	if err := checkName(user, MaxUserID); err != nil {
		return "", "", fmt.Errorf("user %s", err)
	}
	if _, err := ParseBuildID(build); err != nil {
		return "", "", err
	}
	// uuid.Parse also takes braces, a URN prefix and upper case; only the canonical spelling is one.
	if u, err := uuid.Parse(tail[1:]); err != nil || u.String() != tail[1:] {
		return "", "", fmt.Errorf("%q is not a UUID in canonical form", tail[1:])
	}
	return UserID(user), BuildID(build), nil
}

func checkName(s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%s is not 1 to %d characters long", quote(s), limit)
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return fmt.Errorf("%s has a character other than a-z, 0-9 and '-'", quote(s))
		}
	}
	if s[0] == '-' || s[len(s)-1] == '-' {
		return fmt.Errorf("%s starts or ends with '-'", quote(s))
	}
	return nil
}

func isLowerHex(s string, length int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == length && strings.ToLower(s) == s
}

// quote shows what was given without letting a long or binary input fill a terminal.
func quote(s string) string {
	const shown = 100
	if len(s) > shown {
		return fmt.Sprintf("%q…", s[:shown])
	}
	return fmt.Sprintf("%q", s)
}
