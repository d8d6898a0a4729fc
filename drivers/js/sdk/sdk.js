// The SDK of JavaScript drivers. It is evaluated before the driver's file, in the same frozen image. The engine's shim calls it
// with its native function and takes the four functions that it returns. Authors read pollux.d.ts.
(function (native) {
  'use strict';

  // Operations of native(); capabilities from 16 on, in the order of engine/capabilities.json.
  const OUTPUT = 0, INPUT = 1, ENCODE = 2, DECODE = 3, RANDOM = 4;
  const LOG = 16, STATE_GET = 17, STATE_SET = 18, SETTING = 19, SEND = 20, REQUEST = 21, PUBLISH = 22, SCHEDULE = 23, EMIT = 24,
    DESCRIBE = 25, DISCOVER = 26, HTTP = 27, CALL = 28, SUBSCRIBE = 29, CONNECTION = 30;
  const TEXT = 1, BYTES = 2;
  const REFUSALS = { '-1': 'denied', '-2': 'timeout', '-3': 'disconnected', '-4': 'too large', '-5': 'over a limit', '-6': 'invalid' };
  const WAIT = Symbol('wait');
  const { stringify, parse } = JSON;
  const isBytes = (v) => v instanceof Uint8Array;
  const isObject = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);

  // Errors.

  /** A driver's own refusal of a command or an event. */
  class Refusal extends Error {
    constructor(message, { code = 1, retryable = false } = {}) {
      super(message);
      this.code = code;
      this.retryable = retryable;
    }
  }
  Refusal.prototype.name = 'Refusal';

  /** What the node said no to. Its reason is denied, timeout, disconnected, too large, over a limit or invalid. */
  class CapabilityError extends Error {
    constructor(what, code) {
      const reason = REFUSALS[code] ?? `code ${code}`;
      super(`${what}: ${reason}`);
      this.reason = reason;
    }
  }
  CapabilityError.prototype.name = 'CapabilityError';

  /** Another twin's refusal. Its code is the other's. */
  class TwinError extends Error {
    constructor(who, { code, message }) {
      super(`${who}: ${message}`);
      this.code = code;
    }
  }
  TwinError.prototype.name = 'TwinError';

  // BUGS are mistakes in the driver. All other errors are refusals: a device that answers nonsense is no crash.
  const BUGS = [TypeError, ReferenceError, RangeError, InternalError];

  /** The frames of a stack that are the author's, such as "at poll (thermostat.js:12:5)". */
  const frames = (e) => String(e?.stack ?? '').split('\n').map((line) => line.trim())
    .filter((line) => line && !/\((sdk:|native\))|\bat sdk:/.test(line));
  const where = (e) => /\(?([^\s()]+:\d+:\d+)\)?$/.exec(frames(e)[0] ?? '')?.[1];
  const describeError = (e) => {
    if (!(e instanceof Error)) return `thrown: ${show(e)}`;
    return `${e.name}: ${e.message}`;
  };
  const withPlace = (e) => (where(e) ? `${describeError(e)} (${where(e)})` : describeError(e));

  const show = (v) => {
    if (typeof v === 'string') return v;
    if (v instanceof Error) return [describeError(v), ...frames(v)].join('\n  ');
    if (isBytes(v)) return `<${v.toHex()}>`;
    if (['number', 'function', 'symbol', 'bigint', 'undefined'].includes(typeof v)) return String(v);
    try {
      return stringify(v, (_, x) => (typeof x === 'bigint' ? String(x) : x)) ?? String(v);
    } catch {
      return String(v);
    }
  };

  // The running call.

  let spec = null; // what the driver's file declared
  let current = null; // the Twin of the running call
  let result = undefined; // of the handler: {value}, {error}
  let rejected = new Map(); // promises that nobody has caught

  const LEVELS = { debug: '\0', info: '\x01', warn: '\x02', error: '\x03' };
  const log = (level, args) => {
    if (current) native(LOG, (LEVELS[level] ?? LEVELS.info) + args.map(show).join(' '), 0);
  };

  const check = (what, code) => {
    if (typeof code === 'number' && code < 0) throw new CapabilityError(what, code);
    return code;
  };

  const span = (what, v) => {
    if (typeof v === 'number' && Number.isFinite(v) && v >= 0) return Math.round(v);
    const m = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(v);
    if (!m) throw new TypeError(`${what}: ${show(v)} is no time: milliseconds, or a text such as "500ms", "10s", "5m", "2h", "1d"`);
    return Math.round(m[1] * { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[m[2]]);
  };

  const frameOf = (what, v) => {
    if (typeof v === 'string' || isBytes(v)) return v;
    if (v instanceof ArrayBuffer) return new Uint8Array(v);
    if (Array.isArray(v)) return Uint8Array.from(v);
    throw new TypeError(`${what}: ${show(v)} is neither a string nor bytes`);
  };
  const payloadOf = (what, v) => (isObject(v) && !isBytes(v) && !(v instanceof ArrayBuffer) || typeof v === 'number' || typeof v === 'boolean'
    ? stringify(v) : frameOf(what, v));

  // joined puts a text, a zero byte and a payload together.
  const joined = (head, payload) => {
    if (typeof payload === 'string') return head + '\0' + payload;
    const text = native(ENCODE, head + '\0');
    const all = new Uint8Array(text.length + payload.length);
    all.set(text);
    all.set(payload, text.length);
    return all;
  };

  const cut = (bytes) => {
    const zero = bytes.indexOf(0);
    return zero < 0 ? [native(DECODE, bytes), new Uint8Array(0)] : [native(DECODE, bytes.subarray(0, zero)), bytes.subarray(zero + 1)];
  };

  const freeze = (v) => {
    if (v !== null && typeof v === 'object' && !Object.isFrozen(v)) {
      Object.freeze(v);
      Object.values(v).forEach(freeze);
    }
    return v;
  };

  // Settings change rarely: what was parsed last is kept. It is frozen, for it may serve several twins of a project.
  let settingsText = null, settingsValue = null;

  class Twin {
    #state; #own; #memory; #before; #group; #wait; #reported = {};

    #live() {
      if (current !== this) throw new Error('this twin belongs to a call that is over: use the one that the handler is given');
    }
    #native(what, op, payload, want = 0, prefix) {
      this.#live();
      return check(what, native(op, payload, want, prefix));
    }
    #load() {
      this.#live();
      if (!this.#state) {
        this.#state = parse(native(STATE_GET, undefined, TEXT));
        this.#before = this.#state.memory === null ? '{}' : stringify(this.#state.memory);
        const { $wait, ...memory } = this.#state.memory ?? {};
        this.#memory = memory;
        this.#wait = $wait;
      }
    }

    get settings() {
      this.#live();
      const text = native(SETTING, undefined, TEXT);
      if (text !== settingsText) {
        settingsValue = freeze(parse(text));
        settingsText = text;
      }
      return settingsValue;
    }
    get memory() {
      this.#load();
      return this.#memory;
    }
    set memory(v) {
      this.#load();
      this.#memory = v ?? {};
    }
    get state() {
      this.#load();
      this.#own ??= { ...this.#state.properties, ...this.#reported };
      return this.#own;
    }

    report(name, value, options) {
      this.#live();
      const values = isObject(name) ? name : { [name]: value };
      const { time, quality } = (isObject(name) ? value : options) ?? {};
      const key = `${time ?? ''}/${quality ?? ''}`;
      if (this.#group?.key !== key) {
        this.#flush();
        this.#group = { key, set: {}, time: time instanceof Date ? time.getTime() : time, quality };
      }
      for (const [property, v] of Object.entries(values)) {
        if (v === undefined || typeof v === 'function' || typeof v === 'number' && !Number.isFinite(v)) {
          throw new Error(`report: ${property} is ${show(v)}; null says that a value is not known`);
        }
        if (property in this.#group.set) {
          const { time: at, quality: q } = this.#group;
          this.#flush();
          this.#group = { key, set: {}, time: at, quality: q };
        }
        this.#group.set[property] = v;
        this.#reported[property] = v;
        if (this.#own) this.#own[property] = v;
      }
    }
    #flush() {
      if (!this.#group) return;
      const { set, time, quality } = this.#group;
      this.#group = undefined;
      this.#native('report', STATE_SET, stringify({ set, time, quality }));
    }
    /** For the SDK: hands over what is left when the handler is done. */
    static save(twin) {
      twin.#flush();
      if (twin.#state) {
        const text = stringify(twin.#wait ? { ...twin.#memory, $wait: twin.#wait } : twin.#memory);
        if (text !== twin.#before) twin.#native('memory', STATE_SET, `{"memory":${text}}`);
      }
    }

    send(frame) {
      this.#native('send', SEND, frameOf('send', frame));
    }
    async request(frame, { timeout = 5000 } = {}) {
      return this.#native('request', REQUEST, frameOf('request', frame), spec.bytes ? BYTES : TEXT, span('timeout', timeout));
    }
    publish(topic, payload, { qos = 0, retain = false } = {}) {
      this.#native(`publish ${topic}`, PUBLISH, joined(String.fromCharCode(qos + (retain ? 4 : 0)) + topic, payloadOf('publish', payload)));
    }
    emit(name, data) {
      this.#native(`emit ${name}`, EMIT, stringify({ name, data }));
    }

    after(name, time, data) {
      this.#timer({ name, after: span('after', time), data });
    }
    every(name, period, data) {
      const ms = span('every', period);
      this.#timer({ name, after: ms, every: ms, data });
    }
    at(name, time, data) {
      const at = time instanceof Date ? time.getTime() : typeof time === 'string' ? Date.parse(time) : time;
      if (!Number.isFinite(at)) throw new TypeError(`at: ${show(time)} is no time: a Date, ISO text or milliseconds since 1970`);
      this.#timer({ name, at: Math.round(at), data });
    }
    cron(name, expression, zone = 'UTC', data = undefined) {
      this.#timer({ name, cron: expression, zone, data });
    }
    cancel(name) {
      this.#native(`cancel ${name}`, SCHEDULE, stringify({ name, cancel: true }));
    }
    #timer(timer) {
      if (!Object.hasOwn(spec.timers, timer.name)) throw new ReferenceError(`timers has no ${timer.name}: nothing would hear it`);
      this.#native(`timer ${timer.name}`, SCHEDULE, stringify(timer));
    }

    async fetch(url, { method, headers, body, timeout } = {}) {
      let payload = body === undefined || body === null ? undefined : payloadOf('fetch', body);
      const sent = { ...headers };
      if (isObject(body) && !isBytes(body) && !Object.keys(sent).some((k) => k.toLowerCase() === 'content-type')) sent['content-type'] = 'application/json';
      const head = stringify({
        method: method?.toUpperCase() ?? (payload === undefined ? 'GET' : 'POST'), url: String(url), headers: sent,
        timeout: timeout === undefined ? undefined : span('timeout', timeout),
      });
      const [answer, bytes] = cut(this.#native(`fetch ${url}`, HTTP, payload === undefined ? head : joined(head, payload), BYTES));
      return new Response(String(url), parse(answer), bytes);
    }
    other(name, system) {
      return new Other(name, system, (what, op, payload, want) => this.#native(what, op, payload, want));
    }
    startTLS() { this.#do('starttls'); }
    reconnect() { this.#do('close'); }
    sleep() { this.#do('sleep'); }
    wake() { this.#do('wake'); }
    #do(what) {
      this.#native(`connection ${what}`, CONNECTION, stringify({ do: what }));
    }

    describe(patch) {
      this.#native('describe', DESCRIBE, stringify(patch));
    }
    discover(device) {
      this.#native('discover', DISCOVER, stringify(device));
    }
    log(...args) { log('info', args); }
    wait(step, data) {
      this.#load();
      if (step === undefined && !this.#wait) throw new ReferenceError('wait: nothing is waited for yet; name the function of answers that takes the next frame');
      if (step !== undefined) {
        if (!Object.hasOwn(spec.answers, step)) throw new ReferenceError(`answers has no ${step}: nothing would take the device's answer`);
        this.#wait = { step, data };
      }
      return WAIT;
    }
    /** For the SDK: what the pending command waits for. */
    static waiting(twin) {
      twin.#load();
      return twin.#wait;
    }
    /** For the SDK: the command is decided. */
    static decided(twin) {
      if (twin.#state) twin.#wait = undefined;
    }
  }

  class Response {
    #bytes; #url;
    constructor(url, { status, headers }, bytes) {
      this.#url = url;
      this.#bytes = bytes;
      this.status = status;
      this.ok = status >= 200 && status < 300;
      this.headers = headers;
    }
    bytes() { return this.#bytes; }
    text() { return native(DECODE, this.#bytes); }
    json() {
      const text = this.text();
      try {
        return parse(text);
      } catch (e) {
        throw new Error(`${this.#url} answered ${this.status} with no JSON: ${text.slice(0, 80)}`, { cause: e });
      }
    }
  }

  /** Another twin of the project. */
  class Other {
    #name; #system; #native;
    constructor(name, system, nativeOf) {
      this.#name = name;
      this.#system = system;
      this.#native = nativeOf;
    }
    async #ask(request, { timeout } = {}) {
      const answer = parse(this.#native(`call ${this.#name}`, CALL, stringify({
        twin: this.#name, system: this.#system, ...request, timeout: timeout === undefined ? undefined : span('timeout', timeout),
      }), TEXT));
      if (answer.error) throw new TwinError(this.#name, answer.error);
      return answer.output;
    }
    call(action, input = null, options = undefined) { return this.#ask({ action, input }, options); }
    set(property, value, options) { return this.#ask({ property, value }, options); }
    get(options) { return this.#ask({ get: true }, options); }
    subscribe(property) { this.#native(`subscribe ${this.#name}`, SUBSCRIBE, stringify({ twin: this.#name, system: this.#system, property })); }
    unsubscribe(property) {
      this.#native(`unsubscribe ${this.#name}`, SUBSCRIBE, stringify({ twin: this.#name, system: this.#system, property, cancel: true }));
    }
  }

  // What a call comes to.

  const EVENTS = ['', 'load', 'connected', 'disconnected', 'received', 'command', 'timer', 'unload', 'migrate', 'subscription', 'webhook',
    'answer', 'scan'];

  // frame calls take(frame, topic); there is a topic where the driver hears messages.
  const frame = (take) => {
    const raw = native(INPUT, undefined, spec.bytes ? BYTES : TEXT);
    const zero = spec.message ? raw.indexOf(spec.bytes ? 0 : '\0') : -1;
    if (zero <= 0) return take(raw);
    return take(raw.slice(zero + 1), spec.bytes ? native(DECODE, raw.subarray(0, zero)) : raw.slice(0, zero));
  };
  const received = (raw, topic) => (topic === undefined ? spec.received?.(current, raw) : spec.message(current, topic, raw));
  const answered = (raw, topic) => {
    const wait = Twin.waiting(current);
    const answer = wait && own(spec.answers, wait.step);
    if (!answer) throw new Refusal(wait ? `a command waits for ${wait.step}, which answers does not have` : 'no command waits for an answer');
    return answer(current, raw, wait.data, topic ?? '');
  };

  const own = (map, name) => (Object.hasOwn(map, name) ? map[name] : undefined);
  const command = ({ action, input, property, value }) => {
    if (property === undefined) {
      const run = own(spec.run, action);
      if (!run) throw new Refusal(`there is no action ${show(action)}`);
      return run(current, input ?? undefined);
    }
    const set = own(spec.set, property);
    if (set) return set(current, value);
    if (!spec.setOther) throw new Refusal(`there is no writable property ${show(property)}`);
    return spec.setOther(current, property, value);
  };

  const webhook = async (request) => {
    if (request.body_base64 !== undefined) request.body = Uint8Array.fromBase64(request.body_base64);
    const answer = await spec.webhook?.(current, request);
    if (answer === undefined) return { status: spec.webhook ? 204 : 404 };
    if (isBytes(answer.body)) return { ...answer, body: undefined, body_base64: answer.body.toBase64() };
    if (isObject(answer.body)) return { ...answer, headers: { 'content-type': 'application/json', ...answer.headers }, body: stringify(answer.body) };
    return answer;
  };

  const text = (v) => (typeof v === 'string' ? v : '');
  const inputOf = () => {
    const text = native(INPUT, undefined, TEXT);
    let input;
    try {
      input = parse(text);
    } catch { /* told below */ }
    if (!isObject(input)) throw new Refusal(`${current.event}: the input is no JSON object: ${text.slice(0, 80)}`);
    return input;
  };

  const dispatch = (event) => {
    if (event === 4) return frame(received);
    if (event === 11) return frame(answered);
    if (!(event in EVENTS)) return undefined; // of a later version of the contract
    const input = inputOf();
    switch (event) {
      case 1: return spec.load?.(current, text(input.reason));
      case 2: return spec.connected?.(current);
      case 3: return spec.disconnected?.(current, text(input.error));
      case 5: return command(input);
      case 6: return own(spec.timers, input.name)?.(current, input.data);
      case 7: return spec.unload?.(current);
      case 8: return spec.migrate?.(current, text(input.from));
      case 9: return spec.changed?.(current, input);
      case 10: return webhook({ path: '', query: {}, headers: {}, ...input, method: text(input.method) });
      case 12: return spec.scan?.(current, input.options ?? {}, input.timeout);
    }
    return undefined;
  };

  const handle = (event) => {
    current = new Twin();
    result = undefined;
    current.event = EVENTS[event];
    try {
      const value = dispatch(event);
      if (value instanceof Promise) {
        value.then((v) => { result = { value: v }; }, (e) => { result = { error: e }; });
      } else {
        result = { value };
      }
    } catch (error) {
      result = { error };
    }
  };

  // finish decides the call, once all promises are settled.
  const finish = () => {
    try {
      for (const reason of rejected.values()) log('error', ['a promise that nobody awaits was rejected:', reason]);
      rejected = new Map();
      if (result === undefined) {
        throw new TypeError('the handler awaits what never comes: in a call only request, fetch and other twins can be awaited; ' +
          'for later frames return twin.wait(step), for later times set a timer');
      }
      if ('error' in result) throw result.error;
      const { value } = result;
      if (value === WAIT && current.event !== 'command' && current.event !== 'answer') {
        throw new TypeError(`${current.event} returned twin.wait(): only commands and answers can`);
      }
      if (value !== WAIT) Twin.decided(current);
      Twin.save(current);
      if (value === WAIT) return -1;
      if (value !== undefined && (current.event === 'command' || current.event === 'answer' || current.event === 'webhook')) {
        const text = stringify(value);
        if (text !== undefined) native(OUTPUT, text);
      }
      return 0;
    } catch (e) {
      return failed(e);
    } finally {
      current = null;
      result = undefined;
    }
  };

  const failed = (e) => {
    if (!(e instanceof Error) || BUGS.some((bug) => e instanceof bug)) {
      log('error', [e instanceof Error ? e : new Error(describeError(e))]);
      native(OUTPUT, withPlace(e));
      return -2;
    }
    if (!(e instanceof Refusal)) log('error', [e]);
    const code = Number.isInteger(e.code) && e.code > 0 ? e.code : 1;
    const passing = e instanceof CapabilityError && (e.reason === 'timeout' || e.reason === 'disconnected' || e.reason === 'over a limit');
    native(OUTPUT, stringify({ code, message: e.message, retryable: e.retryable === true || passing }));
    return code;
  };

  const rejection = (promise, reason, handled) => {
    if (handled) rejected.delete(promise);
    else rejected.set(promise, reason);
  };

  // What a file declares.

  //#include declare.js

  // Globals.

  const levelled = (level) => (...args) => log(level, args);
  const elsewhere = (name, instead) => () => { throw new TypeError(`${name} is not there: ${instead}`); };
  const timerHint = 'a call ends with its handler. A twin\'s timer outlives it: twin.after(name, time), with the handler in timers';
  class TextEncoder {
    encode(text = '') { return native(ENCODE, String(text)); }
  }
  class TextDecoder {
    decode(bytes = new Uint8Array(0)) { return native(DECODE, isBytes(bytes) ? bytes : new Uint8Array(bytes.buffer ?? bytes)); }
  }
  Object.assign(globalThis, {
    driver, Refusal, CapabilityError, TwinError, TextEncoder, TextDecoder,
    console: { log: levelled('info'), info: levelled('info'), debug: levelled('debug'), warn: levelled('warn'), error: levelled('error') },
    setTimeout: elsewhere('setTimeout', timerHint), setInterval: elsewhere('setInterval', timerHint),
    fetch: elsewhere('fetch', 'a request belongs to a twin: twin.fetch(url)'),
    require: elsewhere('require', 'a driver is one file'),
  });
  Math.random = () => native(RANDOM);

  return [loaded, handle, finish, rejection];
});
