package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rlaaudgjs5638/hersh/events"
)

// maxForgotten bounds what one comparison removes; the next goes on.
const maxForgotten = 100

// removeRemains removes what is left here of programs that were deleted: images and folders, /state among them. It takes more than
// the absence of a log for that, which a bus that lost its data has too: somebody must have deleted the program, and the log's leader
// must say that there is none. there are the programs of the read model, known those that had a container a moment ago.
func (e *Executor) removeRemains(ctx context.Context, there, known map[events.ProgramID]bool) error {
	remains, err := e.host.Remains(ctx)
	if err != nil {
		return fmt.Errorf("look for remains: %w", err)
	}
	suspects := slices.DeleteFunc(remains, func(id events.ProgramID) bool { return there[id] || known[id] })
	if len(suspects) == 0 {
		return nil
	}
	deleted, err := e.deletions(ctx)
	if err != nil {
		return fmt.Errorf("look for remains: %w", err)
	}
	var failures []error
	forgotten := 0
	for _, id := range suspects {
		if !deleted[id] || forgotten == maxForgotten {
			continue
		}
		forgotten++
		failures = append(failures, e.forget(ctx, id))
	}
	return errors.Join(failures...)
}

func (e *Executor) deletions(ctx context.Context) (map[events.ProgramID]bool, error) {
	deleted := map[events.ProgramID]bool{}
	for id, err := range e.bus.Deletions(ctx) {
		if err != nil {
			return nil, err
		}
		deleted[id] = true
	}
	return deleted, nil
}

// forget removes what is left of one program. Nothing else happens to the program here meanwhile: it might be created again.
func (e *Executor) forget(ctx context.Context, id events.ProgramID) error {
	for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
		unlock, err := e.locks.Lock(ctx, lockKey(id, class))
		if err != nil {
			return err
		}
		defer unlock()
	}
	_, err := e.bus.Head(ctx, id)
	if !errors.Is(err, events.ErrNoProgram) {
		return err
	}
	if err := e.host.Forget(ctx, id); err != nil {
		return fmt.Errorf("remove what is left of %s: %w", id, err)
	}
	e.log.Info("removed what was left of a program that was deleted", "program", id)
	return nil
}

// lockKey is that of the effects of one class of a program, of which one message is handled at a time.
func lockKey(id events.ProgramID, class events.Class) string { return string(id) + "/" + string(class) }
