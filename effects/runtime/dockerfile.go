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
	"unicode/utf8"
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

// checkAdds reads the lines as Docker joins them. Which character continues a line a directive says, whether the blanks stay that a line
// begins with is the daemon's to say, and not every line that ends with the character goes on (two of them, the end of a heredoc): all
// readings must be harmless, so that nothing has to be understood as Docker does.
func checkAdds(text string) error {
	for _, escape := range []string{"\\", "`"} {
		for _, blanks := range []bool{true, false} {
			for _, line := range logicalLines(text, escape, blanks) {
				if line.fetches() {
					return fmt.Errorf("%w: %.100q", ErrRemoteAdd, line.text)
				}
			}
		}
	}
	return nil
}

// logicalLine is lines that were joined, without quotes, which may stand anywhere in a word.
type logicalLine struct {
	text   string
	starts []int // Where each of the lines begins.
}

// logicalLines joins lines that end with the escape character, with or without the blanks that they begin with, leaving out comments and
// empty lines in between.
func logicalLines(text, escape string, blanks bool) (lines []logicalLine) {
	scanner := bufio.NewScanner(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	scanner.Buffer(nil, maxDockerfile+1)
	quotes := strings.NewReplacer(`"`, "", "'", "")
	var current strings.Builder
	var starts []int
	for scanner.Scan() {
		trimmed := strings.TrimSpace(scanner.Text())
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if blanks {
			trimmed = strings.TrimRightFunc(scanner.Text(), unicode.IsSpace)
		}
		rest, more := strings.CutSuffix(trimmed, escape)
		starts = append(starts, current.Len())
		current.WriteString(quotes.Replace(rest))
		if !more {
			lines = append(lines, logicalLine{current.String(), starts})
			current.Reset()
			starts = nil
		}
	}
	return append(lines, logicalLine{current.String(), starts})
}

// fetches reports whether an ADD of anything but plain names of files begins with any of the lines, since Docker may not have joined it
// with those before. No part is walked through twice, however many lines lead into it.
func (l logicalLine) fetches() bool {
	last := max(strings.LastIndex(l.text, "://"), strings.LastIndexAny(l.text, "$\\`"))
	walked := 0
	for _, start := range l.starts {
		if start < walked {
			continue
		}
		rest, more := l.text[start:], true
		for more {
			rest, more = cutWord(strings.TrimLeftFunc(rest, unicode.IsSpace), "ONBUILD")
		}
		walked = len(l.text) - len(rest)
		if _, add := cutWord(rest, "ADD"); add && walked < last {
			return true
		}
	}
	return false
}

// cutWord takes a word off a text that begins with it and goes on after it.
func cutWord(text, word string) (rest string, found bool) {
	if len(text) <= len(word) || !strings.EqualFold(text[:len(word)], word) {
		return text, false
	}
	next, _ := utf8.DecodeRuneInString(text[len(word):])
	if !unicode.IsSpace(next) {
		return text, false
	}
	return text[len(word):], true
}
