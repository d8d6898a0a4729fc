  const HANDLERS = ['load', 'connected', 'disconnected', 'received', 'message', 'unload', 'migrate', 'changed', 'webhook', 'scan', 'set'];
  const FIELDS = ['name', 'version', 'title', 'description', 'memory_mb', 'capabilities', 'transport', 'transports', 'interfaces',
    'http', 'properties', 'actions', 'events', 'settings', 'frames', 'timers', 'answers', ...HANDLERS];
  const LOGIC_FIELDS = ['name', 'version', 'title', 'description', 'memory_mb', 'capabilities', 'interfaces', 'http', 'properties', 'actions',
    'events', 'settings', 'timers', 'run', 'load', 'unload', 'migrate', 'changed', 'webhook', 'set'];
  const SCHEMA_WORDS = ['$ref', 'oneOf', 'anyOf', 'allOf', 'enum', 'const', 'not'];

  class DeclarationError extends Error {}
  DeclarationError.prototype.name = 'DeclarationError';
  let declares = 'driver';
  const wrong = (path, why) => { throw new DeclarationError(`${declares}: ${path}: ${why}`); };

  const near = (name, names) => {
    const found = names.find((n) => n.toLowerCase() === name.toLowerCase() || Math.abs(n.length - name.length) < 2 &&
      [...n].sort().join('') === [...name].sort().join('') || n.length > 3 && (n.startsWith(name) || name.startsWith(n)));
    return found ? `; did you mean ${found}?` : `; there are ${names.join(', ')}`;
  };
  const known = (path, object, names) => {
    for (const key of Object.keys(object)) if (!names.includes(key)) wrong(path + key, `is unknown${near(key, names)}`);
  };
  const mapOf = (path, v) => (v === undefined ? {} : isObject(v) ? v : wrong(path, 'is to be an object'));
  const functionOf = (path, v) => (typeof v === 'function' ? v : wrong(path, `is to be a function, and is ${show(v)}`));

  // isSchema tells a JSON Schema from a map of fields.
  const isSchema = (v) => typeof v.type === 'string' || Array.isArray(v.type) || SCHEMA_WORDS.some((word) => word in v) || Object.keys(v).length === 0;

  // schemaOf makes a JSON Schema: of a type's name, of a map of fields, which are all required but for those with a default or
  // `optional: true`, or of a schema.
  const schemaOf = (path, v) => {
    if (typeof v === 'string') return { type: v };
    if (!isObject(v)) wrong(path, 'is to be a type\'s name, a JSON Schema or an object of fields');
    if (isSchema(v)) return plain(path, v);
    return objectOf(path, v, (field) => !('default' in field));
  };
  const objectOf = (path, fields, isRequired) => {
    const properties = {}, required = [];
    for (const [name, field] of Object.entries(fields)) {
      const { optional, required: must, ...schema } = schemaOf(`${path}.${name}`, field);
      properties[name] = schema;
      if (must === true || must === undefined && !optional && isRequired(schema)) required.push(name);
      else if (Array.isArray(must)) properties[name].required = must;
    }
    return { type: 'object', properties, ...(required.length ? { required } : {}), additionalProperties: false };
  };
  const plain = (path, v) => {
    try {
      return parse(stringify(v));
    } catch (e) {
      return wrong(path, `cannot be written as JSON: ${e.message}`);
    }
  };

  let declared = null, manifest = null;

  // driver takes what a file declares; the result is what the file exports.
  const driver = (d) => declare(d, FIELDS, undefined);

  // logic is driver for what has no device: with a run, and calls and subscriptions without asking for them.
  const logic = (d) => {
    declares = 'logic';
    // Who posts to a logic brings the token that this setting has.
    const webhook = isObject(d) && d.webhook !== undefined && !(isObject(d.settings) && (d.settings.token ?? d.settings.properties?.token));
    if (webhook && isObject(d.settings) && isObject(d.settings.properties)) wrong('settings', 'has no token, which who posts to the webhook has to bring');
    return declare(webhook ? { ...d, settings: { ...d.settings, token: { type: 'string', writeOnly: true, optional: true, title: 'Token of the webhook' } } } : d, LOGIC_FIELDS, 'logic');
  };

  const declare = (d, fields, kind) => {
    if (declared) wrong('(whole)', 'is called twice; a file declares one driver, or one logic');
    if (!isObject(d)) wrong('(whole)', `takes an object, and was given ${show(d)}`);
    known('', d, fields);
    for (const name of HANDLERS) if (d[name] !== undefined && name !== 'scan') functionOf(name, d[name]);
    for (const name of ['name', 'version']) if (typeof d[name] !== 'string') wrong(name, 'is missing: a text');
    if (![undefined, 'text', 'bytes'].includes(d.frames)) wrong('frames', `${show(d.frames)} is not "text" or "bytes"`);
    const run = {}, set = {}, timers = {}, answers = {};
    if (d.run !== undefined) functionOf('run', d.run);
    for (const [name, fn] of Object.entries(mapOf('timers', d.timers))) timers[name] = functionOf(`timers.${name}`, fn);
    for (const [name, fn] of Object.entries(mapOf('answers', d.answers))) answers[name] = functionOf(`answers.${name}`, fn);
    const model = {
      '@context': 'https://www.w3.org/2022/wot/td/v1.1', '@type': 'tm:ThingModel', title: d.title ?? d.name,
      properties: modelProperties(mapOf('properties', d.properties), set),
      actions: modelActions(mapOf('actions', d.actions), run),
      events: modelEvents(mapOf('events', d.events)),
    };
    const transports = d.transports ?? (d.transport ? [d.transport] : []);
    if (!Array.isArray(transports)) wrong('transports', 'is to be a list');
    declared = Object.freeze({ name: d.name, version: d.version });
    spec = { run, set, timers, answers, bytes: d.frames === 'bytes', judge: d.run?.bind(d) };
    for (const name of HANDLERS) if (typeof d[name] === 'function') spec[name === 'set' ? 'setOther' : name] = d[name].bind(d);
    manifest = {
      contract: 'twin1', kind, name: d.name, version: d.version, title: d.title, description: d.description, memory_mb: d.memory_mb,
      capabilities: capabilitiesOf(kind ? { ...d, capabilities: ['call', 'subscribe', ...(d.capabilities ?? [])] } : d, transports), transports: transports.length ? plain('transports', transports) : undefined,
      interfaces: d.interfaces, http: d.http, scan: scanOf(d.scan), model, settings: settingsOf(d.settings),
    };
    return declared;
  };

  // scanOf takes the functions out of scan, like an action's.
  const scanOf = (scan) => {
    if (scan === undefined) return undefined;
    const { run, found, ...options } = mapOf('scan', scan);
    spec.scan = functionOf('scan.run', run);
    if (found !== undefined) spec.found = functionOf('scan.found', found);
    return plain('scan', options);
  };

  const modelProperties = (properties, set) => {
    const out = {};
    for (const [name, p] of Object.entries(properties)) {
      const { set: setter, queue, ...schema } = isObject(p) ? p : { type: p };
      out[name] = schemaOf(`properties.${name}`, schema);
      if (queue !== undefined) out[name]['pollux:queue'] = plain(`properties.${name}.queue`, queue);
      if (setter === undefined) out[name].readOnly = true;
      else set[name] = functionOf(`properties.${name}.set`, setter);
    }
    return out;
  };
  const modelActions = (actions, run) => {
    const out = {};
    for (const [name, a] of Object.entries(actions)) {
      const { run: fn, input, output, queue, ...rest } = typeof a === 'function' ? { run: a } : mapOf(`actions.${name}`, a);
      run[name] = functionOf(`actions.${name}.run`, fn);
      out[name] = plain(`actions.${name}`, rest);
      if (input !== undefined) out[name].input = schemaOf(`actions.${name}.input`, input);
      if (queue !== undefined) out[name]['pollux:queue'] = plain(`actions.${name}.queue`, queue);
      if (output !== undefined) out[name].output = schemaOf(`actions.${name}.output`, output);
    }
    return out;
  };
  const modelEvents = (events) => {
    const out = {};
    for (const [name, e] of Object.entries(events)) {
      const { data, ...rest } = mapOf(`events.${name}`, e);
      out[name] = plain(`events.${name}`, rest);
      if (data !== undefined) out[name].data = schemaOf(`events.${name}.data`, data);
    }
    return out;
  };
  // Settings have defaults or are optional, unless they say `required: true`.
  const settingsOf = (settings) => {
    if (settings === undefined) return undefined;
    if (isObject(settings) && settings.type === 'object' && isObject(settings.properties)) return plain('settings', settings);
    return objectOf('settings', mapOf('settings', settings), () => false);
  };

  // A driver has what its transports need; call, subscribe and http to other hosts are asked for by name.
  const capabilitiesOf = (d, transports) => {
    const list = new Set(['log', 'state_get', 'state_set', 'setting', 'schedule', 'emit', 'describe', 'discover']);
    for (const { scheme } of transports) {
      if (/^mqtts?$/.test(scheme)) list.add('publish');
      else if (/^https?$/.test(scheme)) list.add('http');
      else if (scheme !== 'webhook') ['send', 'request', 'connection'].forEach((c) => list.add(c));
    }
    if (d.http) list.add('http');
    if (d.scan) list.add('send');
    for (const name of d.capabilities ?? []) list.add(name);
    return [...list];
  };

  // loaded hears how the file's evaluation went, loaded(failed, what), and then, without arguments, gives what came of it: JSON
  // {"manifest":…} or {"error":{"message","file","line","column"}}.
  let problem, exported;
  const loaded = (failure, what) => {
    if (failure === undefined && what === undefined) return outcome();
    if (failure) problem = { error: what };
    else if (what instanceof Promise) what.then((module) => { exported = module; }, (error) => { problem = { error }; });
    else exported = what;
    return undefined;
  };
  const outcome = () => {
    const place = (error) => {
      const [, file, line, column] = /([^\s()]+):(\d+):(\d+)$/.exec(where(error) ?? '') ?? [];
      return stringify({ error: { message: describeError(error).replace(/^DeclarationError: /, ''), file, line: +line || 0, column: +column || 0 } });
    };
    if (problem) return place(problem.error);
    if (!exported) return place(new Error('the file awaits something that never comes'));
    if (!declared || exported.default !== declared) {
      return place(new DeclarationError('the file does not say `export default driver({ … })`, or `logic({ … })`'));
    }
    rejected = new Map();
    try {
      return stringify({ manifest });
    } catch (error) {
      return place(error);
    }
  };
