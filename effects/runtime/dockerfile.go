package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
)

// ErrRemoteAdd says that a Dockerfile has the daemon fetch something. It would do so from the host's own network, which reaches
// what listens on the host's loopback and the address where clouds give out credentials, whatever the network of the build is.
var ErrRemoteAdd = errors.New("ADD of an address, of a variable or with a backslash is refused: " +
	"the Docker daemon would fetch it from the host's own network; COPY files, or fetch in a RUN step")

// maxDockerfile bounds what is read of a Dockerfile; Docker's own bound for a line is below it.
const maxDockerfile = 1 << 20

// refuseRemoteAdd looks through a Dockerfile. One that is not there is for the build to find.
func refuseRemoteAdd(dir, dockerfile string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := root.Open(dockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxDockerfile+1))
	if err != nil {
		return err
	}
	if len(data) > maxDockerfile {
		return fmt.Errorf("the Dockerfile has more than %d bytes", maxDockerfile)
	}
	return checkAdds(string(data))
}

// checkAdds reads the lines as Docker joins them. Which character continues a line a directive says, and whether the blanks stay that a
// line begins with is the daemon's to say: all readings must be harmless, so that nothing has to be understood as Docker does.
func checkAdds(text string) error {
	for _, escape := range []string{"\\", "`"} {
		for _, blanks := range []bool{true, false} {
			for _, line := range logicalLines(text, escape, blanks) {
				if fetches(line) {
					return fmt.Errorf("%w: %.100q", ErrRemoteAdd, line)
				}
			}
		}
	}
	return nil
}

// logicalLines joins lines that end with the escape character, with or without the blanks that they begin with, leaving out comments and
// empty lines in between.
func logicalLines(text, escape string, blanks bool) (lines []string) {
	scanner := bufio.NewScanner(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	scanner.Buffer(nil, maxDockerfile+1)
	var current strings.Builder
	for scanner.Scan() {
		trimmed := strings.TrimSpace(scanner.Text())
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if blanks {
			trimmed = strings.TrimRightFunc(scanner.Text(), unicode.IsSpace)
		}
		if rest, more := strings.CutSuffix(trimmed, escape); more {
			current.WriteString(rest)
			continue
		}
		lines = append(lines, current.String()+trimmed)
		current.Reset()
	}
	return append(lines, current.String())
}

// fetches reports whether an instruction is an ADD of anything but plain names of files. Quotes may stand anywhere in a word.
func fetches(line string) bool {
	word, arguments, _ := strings.Cut(strings.Join(strings.Fields(line), " "), " ")
	for strings.EqualFold(word, "ONBUILD") {
		word, arguments, _ = strings.Cut(arguments, " ")
	}
	if !strings.EqualFold(word, "ADD") {
		return false
	}
	plain := strings.NewReplacer(`"`, "", "'", "").Replace(arguments)
	return strings.Contains(plain, "://") || strings.ContainsAny(plain, "$\\`")
}
