package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rlaaudgjs5638/hersh/events"
)

// The files of a folder.
const (
	fileModel    = "model.json"
	fileServer   = "nats.conf"
	fileAccounts = "accounts.conf"
	dirKeys      = "keys"
	fileLock     = ".lock"

	maxModelBytes = 8 << 20
)

// Dir is the folder that an operator keeps. Several processes may work in it: each takes its lock.
type Dir struct {
	path string
}

// In returns a folder, which need not be there.
func In(path string) Dir { return Dir{path: path} }

// ServerConfig is the file that the NATS server is started with.
func (d Dir) ServerConfig() string { return filepath.Join(d.path, fileServer) }

// KeyFile is where the secret key of a user is written. It may be moved to its owner; nothing here reads it again.
func (d Dir) KeyFile(name string) string { return filepath.Join(d.path, dirKeys, name+".nk") }

// HostKeyName and TenantKeyName are the names of key files.
func HostKeyName(host events.HostID) string   { return "host-" + string(host) }
func TenantKeyName(user events.UserID) string { return "tenant-" + string(user) }

// Init makes what is not there yet: the keys of the services, nats.conf, accounts.conf. What is there stays as it is, nats.conf above
// all, which is the operator's to change.
func (d Dir) Init(server ServerOptions) error {
	return d.change(true, func(m *Model) error {
		for name, key := range map[string]*PublicKey{Provisioner: &m.Provisioner, Supervisor: &m.Supervisor} {
			if *key != "" {
				continue
			}
			var err error
			if *key, err = d.makeKey(name, name); err != nil {
				return err
			}
		}
		if _, err := os.Lstat(d.ServerConfig()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		conf, err := server.config()
		if err != nil {
			return err
		}
		return writeFile(d.ServerConfig(), conf)
	})
}

// AddTenant lets a tenant in. One that is there keeps its key.
func (d Dir) AddTenant(user events.UserID) error {
	if _, err := events.ParseUserID(string(user)); err != nil {
		return err
	}
	return d.change(false, func(m *Model) error { return add(d, m.Tenants, user, TenantKeyName(user)) })
}

// AddHost lets the executor of a host in. One that is there keeps its key.
func (d Dir) AddHost(host events.HostID) error {
	if _, err := events.ParseHostID(string(host)); err != nil {
		return err
	}
	return d.change(false, func(m *Model) error { return add(d, m.Hosts, host, HostKeyName(host)) })
}

// RemoveTenant lets a tenant in no more, and removes its key file. Its programs stay as they are.
func (d Dir) RemoveTenant(user events.UserID) error {
	return d.change(false, func(m *Model) error { return remove(d, m.Tenants, user, TenantKeyName(user)) })
}

// RemoveHost lets the executor of a host in no more, and removes its key file.
func (d Dir) RemoveHost(host events.HostID) error {
	return d.change(false, func(m *Model) error { return remove(d, m.Hosts, host, HostKeyName(host)) })
}

func add[T ~string](d Dir, members map[T]PublicKey, name T, keyName string) error {
	if _, there := members[name]; there {
		return nil
	}
	if len(members) == maxMembers {
		return fmt.Errorf("%d are there already, which is the most", maxMembers)
	}
	key, err := d.makeKey(keyName, string(name))
	if err != nil {
		return err
	}
	members[name] = key
	return nil
}

func remove[T ~string](d Dir, members map[T]PublicKey, name T, keyName string) error {
	if _, there := members[name]; !there {
		return fmt.Errorf("%s %w", name, ErrNotThere)
	}
	delete(members, name)
	if err := os.Remove(d.KeyFile(keyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeKey writes the key file of a user. One that is there from a try that was cut short is written anew: no server knows its key.
func (d Dir) makeKey(name, owner string) (PublicKey, error) {
	public, secret, err := newKey(owner)
	if err != nil {
		return "", err
	}
	defer clear(secret)
	if err := os.MkdirAll(filepath.Join(d.path, dirKeys), 0o700); err != nil {
		return "", err
	}
	return public, writeFile(d.KeyFile(name), secret)
}

// Load returns the model.
func (d Dir) Load() (Model, error) {
	var m Model
	info, err := os.Stat(filepath.Join(d.path, fileModel))
	if err != nil {
		return Model{}, err
	}
	if info.Size() > maxModelBytes {
		return Model{}, fmt.Errorf("%w: it has %d bytes", ErrInvalidModel, info.Size())
	}
	data, err := os.ReadFile(filepath.Join(d.path, fileModel))
	if err != nil {
		return Model{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return Model{}, fmt.Errorf("%w: %w", ErrInvalidModel, err)
	}
	return m, m.Validate()
}

// change changes the model under the lock of the folder, and then writes accounts.conf. The model is written last: what was cut short
// before is done again by the next change.
func (d Dir) change(create bool, fn func(*Model) error) error {
	unlock, err := d.lock(create)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := d.Load()
	if create && errors.Is(err, fs.ErrNotExist) {
		m, err = Model{}, nil
	}
	if err != nil {
		return err
	}
	if m.Hosts == nil {
		m.Hosts = map[events.HostID]PublicKey{}
	}
	if m.Tenants == nil {
		m.Tenants = map[events.UserID]PublicKey{}
	}
	if err := fn(&m); err != nil {
		return err
	}
	return d.write(m)
}

func (d Dir) write(m Model) error {
	accounts, err := Accounts(m)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(d.path, fileAccounts), accounts); err != nil {
		return err
	}
	return writeFile(filepath.Join(d.path, fileModel), append(data, '\n'))
}

func (d Dir) lock(create bool) (unlock func(), err error) {
	if create {
		if err := os.MkdirAll(d.path, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(d.path, fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close() // Nothing was written.
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// writeFile replaces a file as a whole: a server that reloads meanwhile reads the old one or the new one. Only its owner may read it.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // Of mode 0600.
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // Gone already where all went well.
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
