// Lets a change pass, changes it or stops it, as the value says; counts per twin and in all.
export default logic({
  name: 'filter',
  version: '1.0.0',
  settings: { limit: { type: 'number', default: 100 } },
  properties: { notes: 'integer', heard: 'string' },
  actions: { note(twin) { twin.report('notes', (twin.state.notes ?? 0) + 1); } },
  async run(message, context) {
    const { memory, settings } = context;
    memory.twin.count = (memory.twin.count ?? 0) + 1;
    memory.script.count = (memory.script.count ?? 0) + 1;
    const v = message.value;
    if (v === 666) for (;;) ;
    if (v === 667) return undefined.x;
    if (v === 668) throw new Refusal('no beasts');
    if (v === 669) return 5;
    if (v === 671) return context.replace('x'.repeat(40000));
    if (v === 672) { memory.twin = 'y'.repeat(20000); return; }
    if (v === 673) { await context.other('desk').call('note'); return context.stop(); }
    if (v > settings.limit) return context.stop();
    if (v % 2) return context.replace({ ...message, count: memory.twin.count, all: memory.script.count, of: context.twin, by: context.by });
    console.log('passed', v);
    return context.pass();
  },
});
