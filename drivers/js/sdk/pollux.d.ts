// Types of the SDK for drivers in JavaScript. A driver is one file:
//
//	export default driver({ name: 'lamp', version: '1.0.0', ... });
//
// All names here are global; nothing is imported. For checks in an editor put this file beside the driver and begin the
// driver with
//
//	// @ts-check
//	/// <reference path="./pollux.d.ts" />
//
// The language is ECMAScript 2023 without modules, timers and network of its own. Local time is UTC.

/** A JSON value. */
type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** What goes over a wire: a string counts as UTF-8. */
type Frame = string | Uint8Array;

/** Milliseconds, or a text: "500ms", "10s", "5m", "2h", "1d". */
type Span = number | string;

/**
 * A JSON Schema (2020-12), or the name of a type, or an object of fields: those are required but for the ones that have a
 * default or say `optional: true`, and others are refused.
 */
type Schema = string | JsonSchema | { [field: string]: Schema | (JsonSchema & { optional?: boolean }) };

interface JsonSchema {
  type?: 'boolean' | 'integer' | 'number' | 'string' | 'object' | 'array' | 'null';
  title?: string;
  description?: string;
  default?: Json;
  enum?: Json[];
  unit?: string;
  minimum?: number;
  maximum?: number;
  [keyword: string]: unknown;
}

/** What a command, an HTTP request or a setter gives back, now or later. */
type Result<T = unknown> = T | Waiting | void | Promise<T | Waiting | void>;

/** What `twin.wait()` gives; return it. */
interface Waiting { readonly waiting: unique symbol }

/** The value that a schema is about, as far as it says. */
type Typed<S> = S extends 'boolean' | { type: 'boolean' } ? boolean
  : S extends 'integer' | 'number' | { type: 'integer' | 'number' } ? number
  : S extends 'string' | { type: 'string' } ? string
  : any;

/** The settings that a declaration of settings is about. */
type SettingsOf<S> = S extends { type: 'object' } ? any : { readonly [name in keyof S]: Typed<S[name]> };

interface Declaration<S, Memory> {
  /** [a-z0-9][a-z0-9_-]{0,63} */
  name: string;
  /** A semantic version such as 1.2.0. */
  version: string;
  title?: string;
  description?: string;
  /** Cap of an instance's memory, 1 to 256; 32 where it is absent. */
  memory_mb?: number;
  /** How devices are reached; field names as in the manifest (drivers/ABI.md). */
  transport?: Transport;
  transports?: Transport[];
  /** Standard interfaces that the driver implements, such as "Switchable". */
  interfaces?: string[];
  /** Hosts that `twin.fetch` may reach besides the twin's own address; {SETTING} stands for a setting. */
  http?: { hosts: string[] };
  /** What is needed besides what the transports imply: "call", "subscribe". */
  capabilities?: string[];
  /** How frames are given: "text" (UTF-8, the default) or "bytes" (Uint8Array). */
  frames?: 'text' | 'bytes';
  /** Settings by name. They are optional unless they say `required: true`; `writeOnly: true` marks a secret. Or a whole schema. */
  settings?: S & ({ [name: string]: string | (JsonSchema & { required?: boolean | string[]; writeOnly?: boolean }) } | JsonSchema);
  /** Properties by name. One with `set` can be written. */
  properties?: { [name: string]: string | (JsonSchema & { queue?: Queue; set?(twin: Twin<SettingsOf<S>, Memory>, value: any): Result }) };
  /** Actions by name: a function, or one with its schemas. */
  actions?: {
    [name: string]: ((twin: Twin<SettingsOf<S>, Memory>, input: any) => Result) | {
      title?: string;
      description?: string;
      input?: Schema;
      output?: Schema;
      /** Defaults of its commands in the queue. */
      queue?: Queue;
      run(twin: Twin<SettingsOf<S>, Memory>, input: any): Result;
      [keyword: string]: unknown;
    };
  };
  /** Events that the twin announces. */
  events?: { [name: string]: { title?: string; description?: string; data?: Schema } };

  /** The twin was activated. */
  load?(twin: Twin<SettingsOf<S>, Memory>, reason: 'start' | 'settings' | 'version'): unknown;
  connected?(twin: Twin<SettingsOf<S>, Memory>): unknown;
  disconnected?(twin: Twin<SettingsOf<S>, Memory>, error: string): unknown;
  /** A frame came, as the transport's tokenizer cut it. */
  received?(twin: Twin<SettingsOf<S>, Memory>, frame: any): unknown;
  /** An MQTT message came. */
  message?(twin: Twin<SettingsOf<S>, Memory>, topic: string, payload: any): unknown;
  /** By the name that twin.wait(name, data) was given: a frame came while the command waits. */
  answers?: { [step: string]: (twin: Twin<SettingsOf<S>, Memory>, frame: any, data: any, topic: string) => Result };
  /** By the name that a timer was set with. */
  timers?: { [name: string]: (twin: Twin<SettingsOf<S>, Memory>, data: any) => unknown };
  /** Sets a writable property that the driver described (twin.describe); those of `properties` have a `set` of their own. */
  set?(twin: Twin<SettingsOf<S>, Memory>, property: string, value: any): Result;
  /** A property of another twin changed, or is told for the first time. */
  changed?(twin: Twin<SettingsOf<S>, Memory>, change: Change): unknown;
  /** An HTTP request to the twin. No answer is 204. */
  webhook?(twin: Twin<SettingsOf<S>, Memory>, request: WebhookRequest): WebhookAnswer | void | Promise<WebhookAnswer | void>;
  /**
   * Finds devices on the network, without a twin; the manifest's words for a scan stand beside it (drivers/ABI.md). `run` asks: by
   * `twin.send(frame, 'ADDRESS:PORT')`, or `twin.send(frame, '')` for everybody. `found` hears each answer, and says by
   * twin.discover who that is.
   */
  scan?: {
    run(twin: Twin<SettingsOf<S>, Memory>, options: any, timeout: number): unknown;
    found?(twin: Twin<SettingsOf<S>, Memory>, from: string, answer: Uint8Array): unknown;
    [option: string]: unknown;
  };
  /** The twin's driver was of that version before. */
  migrate?(twin: Twin<SettingsOf<S>, Memory>, from: string): unknown;
  unload?(twin: Twin<SettingsOf<S>, Memory>): unknown;
}

/** What a logic declares: no device, but a `run`, and calls and subscriptions without asking for them. */
interface LogicDeclaration<S, Memory> extends Omit<Declaration<S, Memory>,
  'transport' | 'transports' | 'frames' | 'connected' | 'disconnected' | 'received' | 'message' | 'answers' | 'scan'> {
  /**
   * A message on its way through a route, of a rule, of a topic that it reads, of a notifier, or a reading to be judged: nothing, or
   * `context.pass()`, lets it go on, `context.replace(message)` changes it or answers, `context.stop()` ends its way. It runs wherever the
   * message is, beside the logic's other events.
   */
  run?(message: any, context: RunContext<SettingsOf<S>>): Verdict | void | Promise<Verdict | void>;
}

interface Verdict { readonly verdict: unique symbol }

/** The context of a run. It reports, announces and sets no timers; it may call other twins and `fetch`. */
interface RunContext<Settings = any> extends Pick<Twin<Settings>, 'settings' | 'state' | 'fetch' | 'other' | 'member' | 'notify' | 'log'> {
  /** Id of the twin that the message is about, or "". */
  readonly twin: string;
  /** Who gives it: route/ID, rule/ID, schedule/ID, topic/ID, notifier/ID, detector/ID, or who asked for it. */
  readonly by: string;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** By which a repetition is known, or "". */
  readonly id: string;
  /** Of a topic: the message's key and headers, and how often it has been given: 1 for the first time. */
  readonly key: string;
  readonly headers: { readonly [name: string]: string };
  readonly attempt: number;
  /** What run remembers of that twin, 16 KiB of JSON, and for the whole logic. */
  memory: { twin: any; script: any };
  pass(): Verdict;
  stop(): Verdict;
  replace(message: unknown): Verdict;
}

/** Declares a logic. What it returns is the file's default export. */
declare function logic<const S = {}, Memory = any>(declaration: LogicDeclaration<S, Memory>): Readonly<{ name: string; version: string }>;

/** Defaults of commands in the twin's queue; the caller's options win. */
interface Queue { priority?: number; name?: string; retries?: number; timeout_ms?: number; pause_ms?: number; no_answer?: boolean; clear?: boolean }

/** Declares the driver. What it returns is the file's default export. */
declare function driver<const S = {}, Memory = any>(declaration: Declaration<S, Memory>): Readonly<{ name: string; version: string }>;

interface Transport {
  scheme: 'tcp' | 'tls' | 'udp' | 'http' | 'https' | 'ws' | 'wss' | 'ssh' | 'serial' | 'mqtt' | 'mqtts' | 'tcp-in' | 'udp-in' | 'webhook';
  default_port?: number;
  /** Cuts a stream into frames: by a delimiter, which is not part of them, or by a length. */
  tokenizer?: { delimiter?: string; length_bytes?: 1 | 2 | 4; length_offset?: number; max_frame?: number };
  idle_timeout_ms?: number;
  [option: string]: unknown;
}

/**
 * The twin of the running call. It is good for this call only: what is to last goes into `memory`.
 *
 * Reports, memory, events, timers and subscriptions take effect together when the handler ends well, and not at all where it
 * throws. What was sent is sent.
 */
interface Twin<Settings = any, Memory = any> {
  /** With defaults, secrets in clear. Read only. */
  readonly settings: Settings;
  /** What the driver remembers for this twin, JSON of 64 KiB; change it in place. */
  memory: Memory;
  /** The properties' values as they were before the call, and what it reported since. */
  readonly state: { readonly [property: string]: any };

  /** Reports values; null says that one is not known any more. */
  report(name: string, value: Json, options?: ReportOptions): void;
  report(values: { [name: string]: Json | undefined }, options?: ReportOptions): void;
  /** Announces an event. */
  emit(name: string, data?: unknown): void;

  /** Writes a frame to the device, with its delimiter. `to` is for scans, and for datagrams with their peer's address. */
  send(frame: Frame | number[], to?: string): void;
  /**
   * Sends a frame and waits for the next frame that comes, whatever it is. The call holds its instance meanwhile, of which 32
   * wait at once; a command that waits for long, or passes over other frames, returns `twin.wait(step)` instead.
   */
  request(frame: Frame | number[], options?: { timeout?: Span }): Promise<any>;
  /**
   * From a command or an answer: `return twin.wait(step, data)` leaves the command open. The next frame goes to the function
   * of `answers` by that name, with the data, and what that returns decides the command. `return twin.wait()` waits on alike.
   */
  wait(step?: string, data?: unknown): Waiting;
  /** Publishes an MQTT message; an object becomes JSON. */
  publish(topic: string, payload: Frame | number | boolean | object, options?: { qos?: 0 | 1 | 2; retain?: boolean }): void;

  /** Timers survive restarts, and replace the one of their name, which is a function of `timers`. */
  after(name: string, time: Span, data?: unknown): void;
  every(name: string, period: Span, data?: unknown): void;
  at(name: string, time: Date | string | number, data?: unknown): void;
  /** "MIN HOUR DOM MON DOW", or six fields with seconds before them. The zone is IANA's, such as "Europe/Berlin". */
  cron(name: string, expression: string, zone?: string, data?: unknown): void;
  cancel(name: string): void;

  /** An HTTP request; a relative URL goes to the twin's address. An object as body becomes JSON. */
  fetch(url: string, options?: { method?: string; headers?: { [name: string]: string }; body?: unknown; timeout?: Span }): Promise<HttpResponse>;
  /** Another twin of the project; with a system's id by the name that it has there. */
  other(name: string, system?: string): OtherTwin;
  /** Of a logic: tells somebody by a notifier of the project. A message of the same id goes out once. */
  notify(notifier: string, message: string | { subject?: string; body?: string; to?: string[]; urgent?: boolean; id?: string }): Promise<void>;
  /** Of a logic: the twin that has this name in the system that the logic is bound to. */
  member(name: string): OtherTwin;

  /** Begins TLS in the session. */
  startTLS(): void;
  /** Drops the connection and dials again. */
  reconnect(): void;
  /** The device sleeps: commands wait until wake. */
  sleep(): void;
  wake(): void;

  /** A merge patch of the Thing Model: what this unit really has. */
  describe(patch: object): void;
  /** A device behind or near this one, for the inbox. */
  discover(device: { network: string; key: string; value: string; name?: string; driver?: string; uri?: string; settings?: object }): void;
  /** A line in the twin's log, as console.log. */
  log(...values: unknown[]): void;
}

interface ReportOptions {
  /** When it was measured; now, where it is absent. */
  time?: number | Date;
  quality?: 'good' | 'stale' | 'bad';
}

interface HttpResponse {
  readonly status: number;
  /** The status is 200 to 299. */
  readonly ok: boolean;
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string };
  text(): string;
  json(): any;
  bytes(): Uint8Array;
}

interface OtherTwin {
  /** Invokes an action and gives its output. Throws TwinError. */
  call(action: string, input?: unknown, options?: { timeout?: Span }): Promise<any>;
  /** Sets a property's desired value. */
  set(property: string, value: unknown, options?: { timeout?: Span }): Promise<any>;
  get(options?: { timeout?: Span }): Promise<{ properties: { [name: string]: any }; connected: boolean }>;
  /** Changes go to `changed`, the first value too. */
  subscribe(property: string): void;
  unsubscribe(property: string): void;
}

interface Change {
  twin: string;
  /** As it was subscribed to. */
  name: string;
  property: string;
  value: any;
  quality: 'good' | 'stale' | 'bad';
  time: number;
  /** Changes that were passed over because the driver was slow. */
  missed?: number;
}

interface WebhookRequest {
  method: string;
  path: string;
  query: { [name: string]: string };
  headers: { [name: string]: string };
  /** A string, or bytes where it is no text. */
  body?: string | Uint8Array;
}

interface WebhookAnswer {
  status?: number;
  headers?: { [name: string]: string };
  /** An object becomes JSON. */
  body?: string | Uint8Array | object;
}

/** Throw it to refuse a command: its sender is told the code and whether trying again makes sense. */
declare class Refusal extends Error {
  /** `after` says when trying again makes sense: milliseconds, or a text such as "30s". */
  constructor(message: string, options?: { code?: number; retryable?: boolean; after?: number | string });
  readonly code: number;
  readonly retryable: boolean;
  readonly after?: number;
}

/** The node refused what the driver asked for. Not caught, it refuses the command; timeouts and lost connections as retryable. */
declare class CapabilityError extends Error {
  readonly reason: 'denied' | 'timeout' | 'disconnected' | 'too large' | 'over a limit' | 'invalid';
}

/** Another twin refused. */
declare class TwinError extends Error {
  readonly code: string;
}

declare class TextEncoder { encode(text?: string): Uint8Array }
declare class TextDecoder { decode(bytes?: Uint8Array): string }

/** To the twin's log. */
declare const console: { [level in 'log' | 'info' | 'debug' | 'warn' | 'error']: (...values: unknown[]) => void };

interface Uint8Array {
  toHex(): string;
  toBase64(options?: { alphabet?: 'base64' | 'base64url'; omitPadding?: boolean }): string;
}
interface Uint8ArrayConstructor {
  fromHex(text: string): Uint8Array;
  fromBase64(text: string, options?: { alphabet?: 'base64' | 'base64url' }): Uint8Array;
}
declare function atob(text: string): string;
declare function btoa(text: string): string;

/** Questions for services by multicast DNS, and what answers: for scans over UDP, port and local_port 5353, group 224.0.0.251. */
declare const mdns: {
  /** A message that asks who has services of the types, such as "_http._tcp". */
  query(...types: string[]): Uint8Array;
  /** The services that an answer tells of; none where it is no answer, or cannot be read. */
  services(message: Uint8Array): MdnsService[];
};

interface MdnsService {
  /** Such as "_http._tcp". */
  type: string;
  instance: string;
  /** The device's name, its port and its first IPv4 address, where the answer tells them. */
  host?: string;
  port?: number;
  address?: string;
  /** The service's attributes, by names in lower case. */
  txt: { [name: string]: string };
}
