// @ts-check
/// <reference path="../sdk/pollux.d.ts" />
// The types of settings come from their schemas: the lines marked so are the mistakes that the compiler must find.
export default driver({
  name: 'typed', version: '1.0.0',
  transport: { scheme: 'tcp', tokenizer: { delimiter: '\n' } },
  settings: { host: { type: 'string' }, poll_s: { type: 'integer', default: 5 }, quiet: 'boolean' },
  properties: { level: { type: 'number', set: (twin, value) => twin.send(`LEVEL ${value}`) } },
  load(twin) {
    twin.every('poll', twin.settings.poll_s * 1000);
    twin.settings.poll_s.toUpperCase(); // mistake
    twin.settings.hots; // mistake
    twin.settings.host = 'x'; // mistake
    twin.sent('x'); // mistake
    twin.report('level', 3, { quality: 'excellent' }); // mistake
  },
  timers: { poll: (twin) => twin.send(5) }, // mistake
  recieved() {}, // mistake
});
