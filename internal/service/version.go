package service

import (
	"regexp"
	"runtime/debug"
	"strings"
)

// devVersion is shown where the build knows no version.
const devVersion = "0.0.0-dev"

// Version returns the version that was built in, as a semantic version without "v".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return devVersion
	}
	return semantic(info.Main.Version)
}

// semantic returns a module version as a semantic version. NATS micro services accept no other.
func semantic(module string) string {
	version := strings.TrimPrefix(module, "v")
	pattern := regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	if !pattern.MatchString(version) {
		return devVersion
	}
	return version
}
