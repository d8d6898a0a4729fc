/** What a new logic begins with. */
export function begin(name: string, what: "twins" | "messages"): string {
  return what === "twins" ? reacts(name) : judges(name);
}

const reacts = (name: string) => `// Reacts to a twin: while it is reported as on, the logic is busy, and ten minutes after as well.
export default logic({
  name: '${name}',
  version: '0.1.0',
  settings: {
    of: { type: 'string', title: 'Twin that it looks at', default: 'lamp' },
    property: { type: 'string', title: 'Property of it', default: 'power' },
    after: { type: 'string', title: 'How long it stays busy', default: '10m' },
  },
  properties: { busy: 'boolean' },
  load(twin) {
    twin.other(twin.settings.of).subscribe(twin.settings.property);
  },
  changed(twin, { value }) {
    if (value) {
      twin.cancel('idle');
      twin.report('busy', true);
    } else {
      twin.after('idle', twin.settings.after);
    }
    console.log('it says', value);
  },
  timers: {
    idle(twin) { twin.report('busy', false); },
  },
});
`;

const judges = (name: string) => `// A step of a route or a rule: lets a message pass, changes it, or stops it. What it remembers is in context.memory.
export default logic({
  name: '${name}',
  version: '0.1.0',
  settings: { least: { type: 'number', title: 'Least change that goes on', default: 1 } },
  run(message, context) {
    const seen = context.memory.twin;
    if (Math.abs(message.value - seen.last) < context.settings.least) return context.stop();
    seen.last = message.value;
    return context.replace({ ...message, checked: true });
  },
});
`;
