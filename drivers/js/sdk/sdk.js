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
    constructor(message, { code = 1, retryable = false, after } = {}) {
      super(message);
      this.code = code;
      this.retryable = retryable || after !== undefined;
      if (after !== undefined) this.after = span('after', after);
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

  // The twin.

  //#include twin.js

  //#include mdns.js

  // What a call comes to.

  const EVENTS = ['', 'load', 'connected', 'disconnected', 'received', 'command', 'timer', 'unload', 'migrate', 'subscription', 'webhook',
    'answer', 'scan', 'run'];

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

  // A logic's run says what becomes of a message: nothing lets it pass.
  class Verdict {
    constructor(output) { this.output = output; }
  }
  const STOP = new Verdict({ stop: true }), PASS = new Verdict(undefined);
  const run = ({ message, context }) => {
    if (!spec.judge) throw new Refusal('the logic has no run');
    Twin.runs(current, context ?? {});
    return spec.judge(message, current);
  };
  const verdict = (value) => {
    if (value === undefined) return undefined;
    if (value instanceof Verdict) return value.output;
    throw new TypeError(`run returned ${show(value).slice(0, 80)}: return context.pass(), context.replace(message) or context.stop()`);
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
    if (event === 4 && spec.found && Twin.scanning(current)) return spec.found(current, ...cut(native(INPUT, undefined, BYTES)));
    if (event === 4) return frame(received);
    if (event === 11) return frame(answered);
    if (!(event in EVENTS)) return undefined; // of a later version of the contract
    if (event === 13 && declares !== 'logic') return undefined; // for logic
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
      case 12: return spec.scan?.(Twin.scans(current), input.options ?? {}, input.timeout);
      case 13: return run(input);
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
      const ofCommand = current.event === 'command' || current.event === 'answer';
      if (value === WAIT && !ofCommand) {
        throw new TypeError(`${current.event} returned twin.wait(): only commands and answers can`);
      }
      if (value !== WAIT && ofCommand) Twin.decided(current); // a timer between leaves the command open
      Twin.save(current);
      if (value === WAIT) return -1;
      if (current.event === 'run') {
        const said = verdict(value);
        if (said !== undefined) native(OUTPUT, stringify(said));
      } else if (value !== undefined && (ofCommand || current.event === 'webhook')) {
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
    native(OUTPUT, stringify({ code, message: e.message, retryable: e.retryable === true || passing, after: e.after }));
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
    driver, logic, mdns, Refusal, CapabilityError, TwinError, TextEncoder, TextDecoder,
    console: { log: levelled('info'), info: levelled('info'), debug: levelled('debug'), warn: levelled('warn'), error: levelled('error') },
    setTimeout: elsewhere('setTimeout', timerHint), setInterval: elsewhere('setInterval', timerHint),
    fetch: elsewhere('fetch', 'a request belongs to a twin: twin.fetch(url)'),
    require: elsewhere('require', 'a driver is one file'),
  });
  Math.random = () => native(RANDOM);

  // stopped gives the author's frames of a call that the host ends, because it does not end by itself.
  const stopped = (e) => frames(e).join('\n');

  return [loaded, handle, finish, rejection, stopped];
});
