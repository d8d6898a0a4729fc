  // Settings change rarely: what was parsed last is kept. It is frozen, for it may serve several twins of a project.
  let settingsText = null, settingsValue = null;

  class Twin {
    #state; #own; #memory; #before; #group; #wait; #scan; #reported = {};

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
        const { $wait, $scan, ...memory } = this.#state.memory ?? {};
        this.#memory = memory;
        this.#wait = $wait;
        this.#scan = $scan;
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
        const text = stringify(twin.#wait || twin.#scan ? { ...twin.#memory, $wait: twin.#wait, $scan: twin.#scan } : twin.#memory);
        if (text !== twin.#before) twin.#native('memory', STATE_SET, `{"memory":${text}}`);
      }
    }

    send(frame, to) {
      const payload = frameOf('send', frame);
      this.#native('send', SEND, to === undefined ? payload : joined(to, payload));
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
    /** Of a logic: tells somebody by a notifier of the project. */
    async notify(notifier, message) {
      const notify = isObject(message) ? message : { subject: String(message) };
      const answer = parse(this.#native(`notify ${notifier}`, CALL, stringify({ twin: notifier, notify }), TEXT));
      if (answer.error) throw new TwinError(notifier, answer.error);
    }
    /** Of a logic: what has a name in the system that it is bound to. */
    member(name) { return this.other(name, '.'); }
    pass() { return PASS; }
    stop() { return STOP; }
    replace(message) {
      if (message === undefined || typeof message === 'function') throw new TypeError(`replace: ${show(message)} is no message`);
      return new Verdict({ replace: message });
    }
    /** For the SDK: the twin is the context of a run. */
    static runs(twin, { twin: about, by, time, id, key, attempt, headers }) {
      twin.twin = about ?? '';
      twin.by = by ?? '';
      twin.time = time ?? Date.now();
      twin.id = id ?? '';
      twin.key = key ?? '';
      twin.attempt = attempt ?? 1;
      twin.headers = headers ?? {};
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
    /** For the SDK: this is a scan, in which what comes are answers. */
    static scans(twin) {
      twin.#load();
      twin.#scan = true;
      return twin;
    }
    static scanning(twin) {
      twin.#load();
      return twin.#scan;
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
