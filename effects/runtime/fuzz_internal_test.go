package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// fixedOutput is output that is what it is, whatever the daemon is asked for.
type fixedOutput []byte

func (o fixedOutput) logs(context.Context, string, time.Time, bool) (io.ReadCloser, error) {
	return io.NopCloser(iotest.HalfReader(bytes.NewReader(o))), nil
}

func (o fixedOutput) alive(context.Context, string) (bool, error) { return false, nil }

func frame(stream byte, text string) string {
	head := make([]byte, frameHeader)
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

// FuzzLogStream feeds the follower any bytes as Docker's output of a container. It must end, keep no more than came, and, when
// it follows the same output once more, add nothing to what it has.
func FuzzLogStream(f *testing.F) {
	const stamp = "2026-01-02T03:04:05.000000006Z "
	whole := frame(1, stamp+"hello\n") + frame(2, stamp+"oops\n") + frame(1, strings.Replace(stamp, "06Z", "07Z", 1)+"part")
	for _, seed := range []string{
		"", whole, whole[:len(whole)-3], whole[3:], frame(1, "no stamp\n"), frame(1, ""), frame(3, "the daemon's own error"), frame(9, stamp),
		frame(0, stamp+"stdin\n"), "\x01\x00\x00\x00\xff\xff\xff\xff" + stamp, "\x01\x00\x00\x00\x00\x0f\xff\xff" + stamp,
		frame(1, "9999-99-99T99:99:99Z x"), frame(1, "0001-01-01T00:00:00Z x\n") + frame(2, "9999-12-31T23:59:59.999999999Z y\n"),
		frame(1, stamp+strings.Repeat("x", 40_000)) + frame(2, stamp+"y\n"),
	} {
		f.Add([]byte(seed))
	}
	quiet := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "runtime.log")
		once := followFixed(t, quiet, path, data)
		if len(once) > len(data) {
			t.Errorf("%d bytes were made of %d", len(once), len(data))
		}
		if again := followFixed(t, quiet, path, data); !bytes.Equal(again, once) {
			t.Errorf("the log was %q, and after another reading it is %q", once, again)
		}
	})
}

func followFixed(t *testing.T, log *slog.Logger, path string, data []byte) []byte {
	t.Helper()
	follower := newFollower(fixedOutput(data), FollowOpts{ContainerID: "c", ProgramID: "p", Path: path}, log)
	if err := follower.resume(); err != nil {
		t.Fatal(err)
	}
	follower.adopt()
	_ = follower.read(t.Context(), false) // What makes no sense is an error; it is tried again in life.
	if err := follower.file.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzBuildOutput feeds any bytes as the messages of a build. Reading must end, with a log no longer than its bound, and an image
// must be one that a message named.
func FuzzBuildOutput(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"stream":"Step 1/2 : FROM scratch\n"}` + "\n" + `{"aux":{"ID":"sha256:1"}}`, `{"error":"no"}`, `{"errorDetail":{"message":"bad"}}`,
		`{"stream":"Step 1/1 : RUN x\n"}` + "\n" + `{"stream":" ---> Running in 0123456789ab\n"}` + "\n" + `{"stream":"\u001b[91mred\u001b[0m"}` + "\n" + `{"error":"x"}`,
		`{"stream":"Successfully built 0123456789ab\n"}`, `{"status":"Pulling","id":"x","progressDetail":{"current":1}}`, "[1]", `{"stream":7}`,
		`{"aux":[]}`, strings.Repeat("x", 3<<20),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var live bytes.Buffer
		output := &buildOutput{log: &buildLog{live: &live, left: maxBuildLog}}
		err := output.read(bytes.NewReader(data))
		if live.Len() > maxBuildLog+1<<16 {
			t.Errorf("the log has %d bytes", live.Len())
		}
		if err == nil && output.imageID == "" && !output.success {
			t.Error("a build without any result is a success")
		}
		if err != nil && len(err.Error()) > maxMessage+4*maxTail {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	})
}

// FuzzDockerfilePath checks that no name of a Dockerfile leads out of the source folder.
func FuzzDockerfilePath(f *testing.F) {
	for _, seed := range []string{"", "Dockerfile", "../Dockerfile", "/etc/passwd", "a/../../x", "/src/x", "a//b", "./x", "a/..", "\x00", "..", "/src"} {
		f.Add("/src", seed)
	}
	f.Fuzz(func(t *testing.T, dir, name string) {
		if !filepath.IsAbs(dir) {
			return
		}
		rel, err := relativeDockerfile(dir, name)
		if err != nil {
			return
		}
		if !filepath.IsLocal(rel) || strings.Contains(rel, "..") && !strings.Contains(name, "..") && !strings.Contains(dir, "..") {
			t.Errorf("%q in %q is %q", name, dir, rel)
		}
	})
}

// TestRemoteAddIsRefused tries the ways to write an address.
func TestRemoteAddIsRefused(t *testing.T) {
	for text, refused := range map[string]bool{
		"FROM scratch\nADD http://127.0.0.1/x /x":                                   true,
		"add https://x/y /x":                                                        true,
		"ADD\thttp://x /x":                                                          true,
		"  ADD --chown=1:1 a http://x /x":                                           true,
		"ADD [\"http://x\", \"/x\"]":                                                true,
		`ADD ["\u0068ttp:\/\/x", "/x"]`:                                             true,
		"ARG U=http://x\nADD ${U} /x":                                               true,
		"ENV U http://x\nADD $U /x":                                                 true,
		"ADD ht'tp':\"//x\" /x":                                                     true,
		"ADD ht\\tp://x /x":                                                         true,
		"AD\\\nD http://x /x":                                                       true,
		"ADD \\\n# no\n\n http://x /x":                                              true,
		"ADD\\\n http://x /x":                                                       true, // The blank that the next line begins with ends the word.
		"ADD\\ \t\n# no\n\n\thttp://x /x":                                           true,
		"# escape=`\nADD`\n http://x /x":                                            true,
		"ADD --chown=1\\\n http://x /x":                                             true,
		"AD\\\n D http://x /x":                                                      true, // Docker reads AD; but whoever does not would read ADD.
		"ONBUILD \\\nADD http://x /x":                                               true,
		"ONBUILD\\\n ADD\\\n http://x /x":                                           true,
		"ONBUILD AD\\\nD http://x /x":                                               true,
		"# escape=`\nONBUILD`\n ADD http://x /x":                                    true,
		"ONBUILD ADD [\"http://x\", \"/x\"]":                                        true,
		"ONBUILD ADD $U /x":                                                         true,
		"ONBUILD\tADD\thttp://x /x":                                                 true,
		"LABEL a=b\\\\\nADD http://x /x":                                            true, // Two of them do not continue a line.
		"LABEL a=b\\\\\nAD\\\nD http://x /x":                                        true,
		"# escape=`\nLABEL a=b``\nAD`\nD http://x /x":                               true,
		"LABEL a=b\\\\\nONBUILD\\\n A\\\nD\\\nD http://x /x":                        true,
		"LABEL a=b\\\\\nONB\\\nUILD AD\\\nD http://x /x":                            true,
		"RUN <<'E\\'\nE\\\nAD\\\nD http://x /x":                                     true,
		"RUN git remote add origin http://x && \\\n\tapk add y":                     false,
		"RUN echo \\\n\tONBUILD ADD a b":                                            false,
		"add --chown=1:1 http://x /x":                                               true,
		"oNbUiLd aDd HTTPS://x /x":                                                  true,
		"ADD <<\"E\" http://x /x\nE":                                                true,
		"RUN <<EOF\nx \\\nEOF\nADD http://x /x":                                     true,
		"RUN <<'E\\'\nE\\\nADD http://x /x":                                         true,
		"ADD <<EOF http://x /x\na\nEOF":                                             true,
		"ADD <<EOF /x\nhttp://x\nEOF":                                               false,
		"ONBUILD ADD a /b\nONBUILD RUN curl http://x\nONBUILD COPY a /b":            false,
		"# escape=`\nAD`\nD http://x /x":                                            true,
		"# escape=`\nRUN a `\nADD http://x /x":                                      true,
		"ONBUILD ADD http://x /x":                                                   true,
		"onbuild onbuild add http://x /x":                                           true,
		"\ufeffADD http://x /x":                                                     true,
		"ADD\u00a0http://x /x":                                                      true,
		"ADD http://x /x\r\n":                                                       true,
		"FROM scratch\nADD a.tar.gz /\nADD [\"a b\", \"/c\"]\nADD --chown=1 a/b /c": false,
		"RUN curl http://x\nCOPY a /b\nLABEL u=http://x\n# ADD http://x /x":         false,
		"ENTRYPOINT [\"ADD\", \"http://x\"]":                                        false,
		"":                                                                          false,
	} {
		if err := checkAdds(text); errors.Is(err, ErrRemoteAdd) != refused {
			t.Errorf("%q gives %v", text, err)
		}
	}
}

// FuzzDockerfile checks that no Dockerfile is too much, and that one in which an ADD of an address begins with a line, at once or
// split in two, is refused whatever stands around it.
func FuzzDockerfile(f *testing.F) {
	f.Add("FROM scratch", "RUN x")
	f.Add("# escape=`", "`")
	f.Add("RUN a \\", "\\")
	f.Add("LABEL a=b\\\\", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		_ = checkAdds(before)
		_ = checkAdds(after)
		if len(before) > 1000 {
			return
		}
		for _, add := range []string{"ADD http://127.0.0.1/x /x", "AD\\\nD http://127.0.0.1/x /x", "onbuild A`\nDD http://127.0.0.1/x /x"} {
			if err := checkAdds(before + "\n" + add + "\n" + after); !errors.Is(err, ErrRemoteAdd) {
				t.Errorf("between %q and %q, %q passes", before, after, add)
			}
		}
	})
}

// What a Dockerfile costs grows with its size only, whatever its lines lead into.
func BenchmarkDockerfile(b *testing.B) {
	for name, line := range map[string]string{"onbuild": "ONBUILD \\\n", "add": "ADD a \\\n", "blanks": " x\\\n", "empty": "\\\n"} {
		text := strings.Repeat(line, maxDockerfile/len(line))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_ = checkAdds(text)
			}
		})
	}
}
