// Package pool runs the drivers' calls: a bounded number at a time, fairly between drivers, so that a driver that
// loops, crawls or is merely popular takes its own share and no more.
//
// A call that waits for a device (Block … Unblock) holds no running share; how many of one driver may wait is
// bounded as well, because each holds an instance of the guest.
package pool

import "sync"

// Job is one call. Run is called once, on a goroutine of the pool.
type Job interface{ Run() }

// Options bound a pool; all must be at least 1.
type Options struct {
	// Running is how many jobs run at a time.
	Running int
	// RunningPerKey is how many of them may have one key.
	RunningPerKey int
	// StartedPerKey bounds the jobs of a key that run or wait in Block.
	StartedPerKey int
}

// Pool is a fair, bounded set of workers. Safe for concurrent use.
type Pool struct {
	o       Options
	mu      sync.Mutex
	running int
	ring    []*Key // keys that may have something to start, in turn
	closed  bool
	wg      sync.WaitGroup
	workers Routines
}

// Key is a queue of jobs that share a bound, such as those of one driver.
type Key struct {
	jobs    []Job
	resume  []chan struct{}
	running int
	blocked int
	inRing  bool
	slow    bool
}

// New makes a pool. It starts no goroutine until there is work.
func New(o Options) *Pool { return &Pool{o: o} }

// Submit queues a job. It does not block; the caller bounds how much it submits. After Close it reports false, and the
// job does not run.
func (p *Pool) Submit(k *Key, j Job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	k.jobs = append(k.jobs, j)
	p.offer(k)
	p.dispatch()
	return true
}

// Block says that the calling job waits for something outside; its share goes to another.
func (p *Pool) Block(k *Key) {
	p.mu.Lock()
	k.running--
	p.running--
	k.blocked++
	p.offer(k)
	p.dispatch()
	p.mu.Unlock()
}

// Unblock ends Block: it waits until the job may run on. Jobs that resume go before new ones.
func (p *Pool) Unblock(k *Key) {
	p.mu.Lock()
	turn := make(chan struct{})
	k.resume = append(k.resume, turn)
	p.offer(k)
	p.dispatch()
	p.mu.Unlock()
	<-turn
}

// Slow limits a key to one running job at a time, or lifts that: for a driver whose calls overran.
func (p *Pool) Slow(k *Key, slow bool) {
	p.mu.Lock()
	if k.slow != slow {
		k.slow = slow
		p.offer(k)
		p.dispatch()
	}
	p.mu.Unlock()
}

// Load tells how many jobs run, wait in Block, and are queued.
func (p *Pool) Load(k *Key) (running, blocked, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return k.running, k.blocked, len(k.jobs)
}

// Close lets no further job be submitted and waits for those that were.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
	p.workers.Close()
}

func (p *Pool) eligible(k *Key) bool {
	limit := p.o.RunningPerKey
	if k.slow {
		limit = 1
	}
	if k.running >= limit {
		return false
	}
	return len(k.resume) > 0 || len(k.jobs) > 0 && k.running+k.blocked < p.o.StartedPerKey
}

func (p *Pool) offer(k *Key) {
	if !k.inRing && p.eligible(k) {
		k.inRing = true
		p.ring = append(p.ring, k)
	}
}

// dispatch starts what may start on new workers.
func (p *Pool) dispatch() {
	for {
		k, j := p.next()
		if j == nil {
			return
		}
		p.wg.Add(1)
		p.workers.Go(func() { p.work(k, j) })
	}
}

// next takes the next job in turn; on the way it resumes those that waited.
func (p *Pool) next() (*Key, Job) {
	for p.running < p.o.Running && len(p.ring) > 0 {
		k := p.ring[0]
		p.ring[0] = nil
		p.ring = p.ring[1:]
		k.inRing = false
		if !p.eligible(k) {
			continue
		}
		p.running++
		k.running++
		if len(k.resume) > 0 {
			close(k.resume[0])
			k.resume = k.resume[1:]
			k.blocked--
			p.offer(k)
			continue
		}
		j := k.jobs[0]
		k.jobs[0] = nil
		k.jobs = k.jobs[1:]
		p.offer(k)
		return k, j
	}
	return nil, nil
}

// work runs jobs until there is none to start.
func (p *Pool) work(k *Key, j Job) {
	defer p.wg.Done()
	for j != nil {
		j.Run()
		p.mu.Lock()
		k.running--
		p.running--
		p.offer(k)
		k, j = p.next()
		if j != nil {
			p.dispatch()
		}
		p.mu.Unlock()
	}
}
