// Command lifecycle runs one program through its life in one process, on real Docker and without a bus: the smallest use of Hersh's
// parts. It is started with the source folder of a program, for instance
//
//	make examples && go run ./examples/lifecycle examples/counter
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/program"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func main() {
	dir := flag.String("dir", "/var/lib/hersh/programs", "base folder of the programs")
	sandbox := flag.String("runtime", "runsc", "container runtime: runsc, or runc, which is weaker")
	name := flag.String("id", "my-prog", "ID of the program")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: lifecycle [flags] SOURCE-FOLDER")
	}
	if err := run(*dir, *sandbox, events.ProgramID(*name), flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func run(dir, sandbox string, id events.ProgramID, source string) error {
	// Setup
	storage := storage.NewManager(dir)
	compose := compose.NewBuilder()
	docker, err := runtime.NewDockerManager()
	if err != nil {
		return err
	}
	defer docker.Close()

	handler := host.NewRealEffectHandler(storage, compose, docker)
	handler.SetDefaultRuntime(sandbox)

	// Put the source where the handler builds it.
	if err := storage.EnsureProgramFolders(id); err != nil {
		return err
	}
	if err := os.CopyFS(storage.GetSrcPath(id), os.DirFS(source)); err != nil {
		return err
	}

	// Create program
	prog := program.NewProgram(id, "build-123", handler)

	// Start supervisor
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		prog.Start(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()

	// Start program
	if err := prog.SendEvent(events.UserStartRequested{ProgramID: id}); err != nil {
		return err
	}
	if err := wait(prog, reducer.StateReady); err != nil {
		return err
	}

	// Use program...

	// Stop program
	if err := prog.SendEvent(events.UserStopRequested{ProgramID: id}); err != nil {
		return err
	}
	return wait(prog, reducer.StateStopped)
}

// wait waits until the program is in a state, and says so.
func wait(prog *program.Program, state reducer.State) error {
	for range 600 {
		now := prog.GetState()
		if now.State == state {
			fmt.Println(now.ID, "is", now.State)
			return nil
		}
		if now.State == reducer.StateError {
			return fmt.Errorf("%s failed: %s", now.ID, now.ErrorMsg)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s is %s still", prog.GetID(), prog.GetState().State)
}
