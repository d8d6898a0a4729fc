// The echo driver of the tests in JavaScript: it has no device, and answers commands and frames.
let calls = 0;

export default driver({
  name: 'echo-js',
  version: '1.0.0',
  title: 'Echo',
  transport: { scheme: 'tcp', tokenizer: { delimiter: '\n' } },
  capabilities: ['http', 'call', 'subscribe'],
  settings: {
    greeting: { type: 'string', default: 'hi ' },
    password: { type: 'string', default: '', writeOnly: true },
  },
  properties: {
    count: 'integer',
    level: { type: 'number', unit: 'percent', set(twin, value) { twin.send(`LEVEL ${value}\n`); return twin.wait('level', value); } },
    label: 'string',
  },
  events: { said: { data: { text: 'string' } } },
  actions: {
    say: { input: { text: 'string' }, output: { text: 'string' }, run: (twin, { text }) => ({ text: twin.settings.greeting + text }) },
    count(twin) {
      twin.memory.calls = (twin.memory.calls ?? 0) + 1;
      twin.report('count', twin.state.count + 1);
      return twin.state.count;
    },
    refuse() { throw new Refusal('no way', { code: 7, retryable: true }); },
    error() {
      throw new Error('went wrong');
    },
    bug(twin) {
      return twin.memory.nothing.at.all;
    },
    async later(twin) {
      const answer = await twin.request('ask\n', { timeout: '2s' });
      await null;
      twin.emit('said', { text: answer });
      return answer;
    },
    async bugLater() {
      await null;
      return missing;
    },
    never() { return new Promise(() => {}); },
    floating() { (async () => { throw new Error('lost'); })(); return 'ok'; },
    log(twin) { console.log('a', { b: 1 }, [2], new Uint8Array([1, 255]), undefined, 'ü'); console.warn('careful'); twin.log('x'); },
    keep() { return ++calls; },
    loop() { for (;;); },
    loopLate() {
      const spin = () => {
        for (;;) calls = Math.abs(calls); // in an arrow
      };
      return [1, 2, 3].map(spin);
    },
    async loopAwaited(twin) {
      await twin.request('ask\n');
      while (true) calls = Math.abs(calls); // after an answer
    },
    loopCaught() {
      for (;;) {
        try { for (;;) Math.abs(calls); } catch { /* goes on */ } finally { calls++; } // caught
      }
    },
    loopPattern() { return /^(a+)+$/.test('a'.repeat(60) + 'b'); }, // a pattern
    deep() { const f = (n) => f(n + 1) + 1; return f(0); },
    eat() { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(7)); },
    publish(twin) { twin.publish('a/b', 'x'); },
    async fetch(twin) {
      const answer = await twin.fetch('/x', { body: { a: 1 }, timeout: 100 });
      return [answer.status, answer.ok, answer.headers['content-type'], answer.json()];
    },
    async other(twin, input) {
      const lamp = twin.other('lamp', 'room-1');
      lamp.subscribe('power');
      return [await lamp.call('on', input), await lamp.get()];
    },
    timers(twin) {
      twin.every('tick', '10s', { n: 1 });
      twin.after('tick', 1500);
      twin.at('tick', new Date(1e12));
      twin.cron('tick', '0 22 * * *', 'Europe/Berlin');
      twin.cancel('tick');
    },
    report(twin) {
      twin.report({ count: 1, label: 'a' });
      twin.report('level', 2.5, { quality: 'bad', time: 5 });
      twin.report('label', null);
      twin.discover({ network: 'n', key: 'k', value: 'v' });
      twin.describe({ properties: { label: null } });
    },
    random() { return Math.random(); },
    text() { return new TextDecoder().decode(new TextEncoder().encode('grün \u{1F600}')); },
  },
  timers: { tick(twin, data) { twin.report('count', data.n); } },
  received(twin, line) {
    if (line === 'crash') null.x();
    twin.report('label', line);
  },
  answers: {
    level(twin, line, value) {
      if (line !== 'ok') {
        twin.report('label', line);
        return twin.wait();
      }
      twin.report('level', value);
      return undefined;
    },
  },
  webhook: (twin, request) => ({ status: 201, body: { path: request.path } }),
});
