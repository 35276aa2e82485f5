// Package keylock has one lock a key.
package keylock

import (
	"context"
	"sync"
)

// Locks are one lock a key. The zero value is ready. Their size is bounded by how much is locked or waited for at once.
type Locks struct {
	mu    sync.Mutex
	locks map[string]*lock
}

type lock struct {
	free  chan struct{} // Holds one token while nobody has the lock.
	users int           // Holders and waiters.
}

// Lock waits for the lock of a key, or for ctx to end.
func (k *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l := k.join(key)
	select {
	case <-l.free:
		return func() {
			l.free <- struct{}{}
			k.leave(key, l)
		}, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, ctx.Err()
	}
}

func (k *Locks) join(key string) *lock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, found := k.locks[key]
	if !found {
		l = &lock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		if k.locks == nil {
			k.locks = map[string]*lock{}
		}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *Locks) leave(key string, l *lock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
