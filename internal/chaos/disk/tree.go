package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// file is a file or a folder: as it is, and what of it is safe.
type file struct {
	folder   bool
	mode     uint32
	changed  time.Time
	data     []byte
	safe     []byte
	dirty    []span // Where data and safe may differ; lengths aside.
	names    map[string]*file
	safeName map[string]*file
}

// span is the bytes from one offset to before another.
type span struct{ from, to int64 }

const (
	maxSpans = 64  // So many are kept apart.
	sector   = 512 // Bytes that are written together, or not at all.
)

func newFolder() *file {
	return &file{folder: true, mode: 0o755, changed: time.Now(), names: map[string]*file{}, safeName: map[string]*file{}}
}

func (f *file) write(data []byte, off int64) {
	end := off + int64(len(data))
	if old := int64(len(f.data)); end > old {
		f.resize(end)
	}
	copy(f.data[off:], data)
	f.note(span{off, end})
	f.changed = time.Now()
}

func (f *file) resize(size int64) {
	old := int64(len(f.data))
	switch {
	case size < old:
		clear(f.data[size:]) // It may grow again, and then there are zeros.
		f.data = f.data[:size]
	case size <= int64(cap(f.data)):
		f.data = f.data[:size]
	default:
		grown := make([]byte, size, max(size, 2*old))
		copy(grown, f.data)
		f.data = grown
	}
	f.note(span{min(size, old), max(size, old)})
	f.changed = time.Now()
}

func (f *file) note(s span) {
	if n := len(f.dirty); n > 0 && s.from <= f.dirty[n-1].to && s.to >= f.dirty[n-1].from {
		f.dirty[n-1] = span{min(s.from, f.dirty[n-1].from), max(s.to, f.dirty[n-1].to)}
		return
	}
	if f.dirty = append(f.dirty, s); len(f.dirty) > maxSpans {
		all := f.dirty[0]
		for _, s := range f.dirty {
			all = span{min(all.from, s.from), max(all.to, s.to)}
		}
		f.dirty = []span{all}
	}
}

// sync makes the contents of a file safe, or the names in a folder.
func (f *file) sync() {
	if f.folder {
		f.safeName = maps.Clone(f.names)
		return
	}
	size := int64(len(f.data))
	if size > int64(len(f.safe)) {
		f.safe = append(f.safe, make([]byte, size-int64(len(f.safe)))...)
	}
	f.safe = f.safe[:size]
	for _, s := range f.dirty {
		if from, to := min(s.from, size), min(s.to, size); from < to {
			copy(f.safe[from:to], f.data[from:to])
		}
	}
	f.dirty = nil
}

// restore makes everything what is safe of it and, if writes are torn, some sectors of what is not.
func (f *file) restore(torn bool) {
	if !f.folder {
		if torn {
			f.tear()
		}
		f.data, f.dirty = slices.Clone(f.safe), nil
		return
	}
	f.names = maps.Clone(f.safeName)
	for _, child := range f.names {
		child.restore(torn)
	}
}

// tear makes every other sector, by chance, of what was written safe, and with it the length that the file has then.
func (f *file) tear() {
	for _, s := range f.dirty {
		for from := s.from; from < min(s.to, int64(len(f.data))); from += sector {
			to := min(from+sector, s.to, int64(len(f.data)))
			if rand.IntN(2) == 0 {
				continue
			}
			if grow := to - int64(len(f.safe)); grow > 0 {
				f.safe = append(f.safe, make([]byte, grow)...)
			}
			copy(f.safe[from:to], f.data[from:to])
		}
	}
}

// sync makes a file safe and, on a journaled disk, all names.
func (d *Disk) sync(f *file) {
	f.sync()
	delete(d.changed, f)
	if d.kind != Strict {
		for folder := range d.changed {
			folder.sync()
		}
		clear(d.changed)
	}
}
