// Package pool runs the drivers' calls: a bounded number at a time, fairly between drivers, so that a driver that
// loops, crawls or is merely popular takes its own share and no more.
//
// A call that waits for a device (Block … Unblock) holds no running share; how many of one driver may wait is
// bounded as well, because each holds an instance of the guest. Beyond the bound those queue that are of a kind which has
// waited lately; calls of other kinds go past them, so that devices which do not answer hold up nothing else.
package pool

import "sync"

// Job is one call. Run is called once, on a goroutine of the pool. Ticket gives what the pool knows of it, always the same.
type Job interface {
	Run()
	Ticket() *Ticket
}

// Kind is what jobs of a key are like: those of one kind are taken to wait for something outside if one of them has.
type Kind struct {
	Event int32
	Name  string
}

// Ticket belongs to one job. Kind is set before the job is submitted; the rest is the pool's.
type Ticket struct {
	Kind Kind
	// asking: it counts among those that wait, or are expected to; blocked: it has waited.
	asking, blocked bool
}

// Options bound a pool; all must be at least 1.
type Options struct {
	// Running is how many jobs run at a time.
	Running int
	// RunningPerKey is how many of them may have one key.
	RunningPerKey int
	// StartedPerKey bounds the jobs of a key that wait in Block, or are of a kind that does. Some more may, until it is known
	// of their kinds; twice as many is the most.
	StartedPerKey int
}

const (
	// forgetAfter jobs of a kind in a row that did not wait, it is not expected of them any more.
	forgetAfter = 8
	// maxKinds of a key are known to wait.
	maxKinds = 256
)

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
	askers  []Job // of kinds that wait for the outside
	resume  []chan struct{}
	waits   map[Kind]int // kinds that do, with how often they have yet to not do so
	running int
	blocked int
	asking  int
	turn    bool
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
	if k.waits[j.Ticket().Kind] > 0 {
		k.askers = append(k.askers, j)
	} else {
		k.jobs = append(k.jobs, j)
	}
	p.offer(k)
	p.dispatch()
	return true
}

// Block says that the job of the ticket waits for something outside; its share goes to another.
func (p *Pool) Block(k *Key, t *Ticket) {
	p.mu.Lock()
	k.learn(t)
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
	return k.running, k.blocked, len(k.jobs) + len(k.askers)
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
	return len(k.resume) > 0 || p.mayStart(k) || p.mayAsk(k)
}

func (p *Pool) mayStart(k *Key) bool {
	return len(k.jobs) > 0 && k.running+k.blocked < 2*p.o.StartedPerKey
}

func (p *Pool) mayAsk(k *Key) bool { return len(k.askers) > 0 && k.asking < p.o.StartedPerKey }

// learn notes that a job waits, and its kind with it.
func (k *Key) learn(t *Ticket) {
	t.blocked = true
	if !t.asking {
		t.asking = true
		k.asking++
	}
	if k.waits == nil {
		k.waits = map[Kind]int{}
	}
	if _, known := k.waits[t.Kind]; known || len(k.waits) < maxKinds {
		k.waits[t.Kind] = forgetAfter
	}
}

// ended takes a job off the count.
func (k *Key) ended(t *Ticket) {
	if t.asking {
		k.asking--
	}
	if n := k.waits[t.Kind]; n > 0 && !t.blocked {
		if k.waits[t.Kind] = n - 1; n == 1 {
			delete(k.waits, t.Kind)
		}
	}
}

// take gives the job that starts next, of the two queues in turn. nil: what was next is of a kind that waits, as is known by
// now, and went to the other queue.
func (p *Pool) take(k *Key) (j Job) {
	if k.turn = !k.turn; p.mayAsk(k) && (k.turn || !p.mayStart(k)) {
		j, k.askers = shift(k.askers)
		j.Ticket().asking = true
		k.asking++
		return j
	}
	j, k.jobs = shift(k.jobs)
	if k.waits[j.Ticket().Kind] > 0 {
		k.askers = append(k.askers, j)
		return nil
	}
	return j
}

func shift(jobs []Job) (Job, []Job) {
	j := jobs[0]
	jobs[0] = nil
	return j, jobs[1:]
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
		if len(k.resume) > 0 {
			p.running++
			k.running++
			close(k.resume[0])
			k.resume = k.resume[1:]
			k.blocked--
			p.offer(k)
			continue
		}
		j := p.take(k)
		if j == nil {
			p.offer(k)
			continue
		}
		p.running++
		k.running++
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
		k.ended(j.Ticket())
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
