package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// DefaultStopTimeout is how long a container has between SIGTERM and SIGKILL.
const DefaultStopTimeout = 10 * time.Second

// DockerManager builds, starts, stops and watches containers on one Docker Engine. It is safe for concurrent use. It owns
// the goroutines that follow the output of containers: Close ends them.
type DockerManager struct {
	cli         *client.Client
	log         *slog.Logger
	stopTimeout time.Duration

	life    context.Context // Ends with Close; the followers, which outlive the calls that start them, live in it.
	end     context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	followers map[string]*follower // By container ID.
}

// Option changes a DockerManager.
type Option func(*settings)

type settings struct {
	host        string
	log         *slog.Logger
	stopTimeout time.Duration
}

// WithDockerHost sets the daemon's address, such as "unix:///var/run/docker.sock", in the place of DOCKER_HOST.
func WithDockerHost(host string) Option { return func(s *settings) { s.host = host } }

// WithLogger sets where the followers report what they meet. The default is slog.Default.
func WithLogger(log *slog.Logger) Option { return func(s *settings) { s.log = log } }

// WithStopTimeout sets how long a container has between SIGTERM and SIGKILL, in whole seconds.
func WithStopTimeout(d time.Duration) Option { return func(s *settings) { s.stopTimeout = d } }

// NewDockerManager returns a manager for the daemon that the environment names (DOCKER_HOST and the like), else for the
// machine's own. It does not connect: use Ping. The API version is negotiated with the first call.
func NewDockerManager(opts ...Option) (*DockerManager, error) {
	s := settings{log: slog.Default(), stopTimeout: DefaultStopTimeout}
	for _, opt := range opts {
		opt(&s)
	}
	options := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if s.host != "" {
		options = append(options, client.WithHost(s.host))
	}
	cli, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("make Docker client: %w", err)
	}
	life, end := context.WithCancel(context.Background())
	return &DockerManager{
		cli: cli, log: s.log, stopTimeout: s.stopTimeout,
		life: life, end: end, followers: map[string]*follower{},
	}, nil
}

// Close ends the followers, waits for them, and closes the connections. Containers go on running, and nothing of their
// output is lost: Follow resumes where this follower ended.
func (m *DockerManager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.end()
	m.running.Wait()
	if err := m.cli.Close(); err != nil {
		return fmt.Errorf("close Docker client: %w", err)
	}
	return nil
}

// Ping reports whether the daemon answers. Its error wraps ErrUnavailable when it does not.
func (m *DockerManager) Ping(ctx context.Context) error {
	err := call(ctx, quickCall, func(ctx context.Context) error {
		_, err := m.cli.Ping(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("ping Docker at %s: %w", m.cli.DaemonHost(), err)
	}
	return nil
}

// Info is what a daemon says of itself and its machine.
type Info struct {
	ServerVersion  string
	APIVersion     string // The version spoken with this client, such as "1.41".
	Runtimes       []string
	DefaultRuntime string // What RUN steps of builds run under.
	CPUs           int
	MemoryBytes    int64
}

// Info asks the daemon about itself.
func (m *DockerManager) Info(ctx context.Context) (Info, error) {
	info, err := m.info(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("ask Docker about itself: %w", err)
	}
	return Info{
		ServerVersion:  info.ServerVersion,
		APIVersion:     m.cli.ClientVersion(),
		Runtimes:       slices.Sorted(maps.Keys(info.Runtimes)),
		DefaultRuntime: info.DefaultRuntime,
		CPUs:           info.NCPU,
		MemoryBytes:    info.MemTotal,
	}, nil
}

func (m *DockerManager) info(ctx context.Context) (info system.Info, err error) {
	err = call(ctx, quickCall, func(ctx context.Context) (err error) {
		info, err = m.cli.Info(ctx)
		return err
	})
	return info, err
}
