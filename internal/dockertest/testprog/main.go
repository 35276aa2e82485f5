// Command testprog is the program inside the containers of Hersh's tests. Its arguments are a script, one word after the
// other:
//
//	print N       N numbered lines on stdout
//	both N        N numbered lines on stdout and stderr in turn
//	long N        one line of N bytes on stdout
//	counted N     one line with the numbers up to N on stdout
//	say WORD      one line on stdout
//	complain WORD one line on stderr
//	await NAME    wait until /state/NAME is there
//	touch NAME    create /state/NAME
//	keep N        write N bytes to /state
//	whereami      what the sandbox lets this process see and do
//	wait          wait for SIGTERM, then say so
//	ignore        ignore SIGTERM for good, and say so
//	endless       numbered lines until it is killed
//	hang          wait for ever
//	oom           take memory until somebody stops it
//	exit CODE     end
//	exitif CODE   end if /state/exit-CODE is there
//
// A script that runs out of words exits with 0.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	script := os.Args[1:]
	for len(script) > 0 {
		script = step(script[0], script[1:])
	}
}

// step runs the first word of a script and returns what is left of it.
func step(word string, rest []string) []string {
	switch word {
	case "whereami":
		whereAmI()
	case "wait":
		wait()
	case "ignore":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ignoring SIGTERM")
	case "endless":
		lines(1<<62, os.Stdout)
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	case "oom":
		takeMemory()
	default:
		if len(rest) == 0 {
			fail("no argument for " + word)
		}
		stepWith(word, rest[0])
		return rest[1:]
	}
	return rest
}

func stepWith(word, arg string) {
	switch word {
	case "print":
		lines(number(arg), os.Stdout)
	case "both":
		lines(number(arg), os.Stdout, os.Stderr)
	case "long":
		_, _ = os.Stdout.WriteString(strings.Repeat("x", number(arg)-1) + "\n")
	case "counted":
		_, _ = os.Stdout.WriteString(counted(number(arg)))
	case "say":
		fmt.Println(arg)
	case "complain":
		fmt.Fprintln(os.Stderr, arg)
	case "await":
		await(filepath.Join("/state", arg))
	case "touch":
		if err := os.WriteFile(filepath.Join("/state", arg), nil, 0o600); err != nil {
			fail(err.Error())
		}
	case "keep":
		if err := os.WriteFile("/state/kept", make([]byte, number(arg)), 0o600); err != nil {
			fail(err.Error())
		}
	case "exit":
		os.Exit(number(arg))
	case "exitif":
		if _, err := os.Stat("/state/exit-" + arg); err == nil {
			os.Exit(number(arg))
		}
	default:
		fail("unknown word " + word)
	}
}

// lines prints n lines to the outputs in turn, unbuffered: each is a write of its own, as most programs do it.
func lines(n int, outputs ...*os.File) {
	for i := range n {
		fmt.Fprintf(outputs[i%len(outputs)], "line %07d\n", i)
	}
}

// counted returns a line with the numbers up to n.
func counted(n int) string {
	var line strings.Builder
	for i := range n {
		fmt.Fprintf(&line, "%d,", i)
	}
	return line.String() + "\n"
}

func wait() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("waiting")
	fmt.Println("got", <-signals)
}

// await polls, since inotify does not work in every sandbox.
func await(path string) {
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func takeMemory() {
	const step = 4 << 20
	var all [][]byte
	for {
		block := make([]byte, step)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
		runtime.KeepAlive(all)
	}
}

func whereAmI() {
	fmt.Println("uid", os.Getuid())
	for _, path := range []string{"/forbidden", "/state/allowed"} {
		err := os.WriteFile(path, []byte("x"), 0o600)
		fmt.Println("write", path, err == nil)
	}
	show("/proc/self/status", "CapEff", "CapBnd", "NoNewPrivs")
	show("/proc/version", "")
	entries, _ := os.ReadDir("/sys/class/net")
	for _, entry := range entries {
		fmt.Println("interface", entry.Name())
	}
}

// show prints the lines of a file that start with one of the prefixes.
func show(path string, prefixes ...string) {
	file, err := os.Open(path)
	if err != nil {
		fmt.Println(path, err)
		return
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		for _, prefix := range prefixes {
			if strings.HasPrefix(scanner.Text(), prefix) {
				fmt.Println(scanner.Text())
			}
		}
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fail(err.Error())
	}
	return n
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, "testprog:", reason)
	os.Exit(99)
}
