// Command cmd runs chaos on real processes: see package chaos.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/chaos"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/disk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run() error {
	var o chaos.Options
	flag.Uint64Var(&o.Seed, "seed", uint64(time.Now().Unix()), "of the schedule of faults, of users, and of what containers do")
	flag.DurationVar(&o.Duration, "duration", time.Minute, "of the faults")
	flag.StringVar(&o.Fault, "fault", "", "only faults of this kind, each alone, to measure recoveries, as executor-killed or host-gone; an unknown one lists all")
	flag.DurationVar(&o.HostTTL, "host-ttl", 10*time.Second, "how long a host may say nothing before it is lost")
	flag.BoolVar(&o.Disks, "disks", disk.Supported(), "NATS servers stand on disks in memory that can fail (FUSE, needs root)")
	flag.BoolVar(&o.Docker, "docker", false, "a fourth executor is on real Docker, with runc")
	flag.IntVar(&o.Programs, "programs", 30, "how many")
	flag.DurationVar(&o.Pace, "pace", time.Second, "mean time between two publications of one of the six users")
	keep := flag.Bool("keep", false, "keep the files and logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "hersh-chaos-")
	if err != nil {
		return err
	}
	if *keep {
		fmt.Println("files are in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	o.Dir = dir
	began := time.Now()
	o.Tell = func(format string, args ...any) {
		fmt.Printf("%s %6.1fs  %s\n", time.Now().UTC().Format(time.TimeOnly), time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	fmt.Printf("seed %d\n", o.Seed)
	report, err := chaos.Run(ctx, o)
	if err != nil {
		return err
	}
	if err := report.Write(os.Stdout); err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%d problems with seed %d", len(report.Problems), o.Seed)
	}
	return nil
}
