// Keeps what it read of topics, in the order in which it did, and what it was told of each. A message says how often it is to fail.
export default logic({
  name: 'ledger',
  version: '1.0.0',
  properties: { notes: 'integer' },
  actions: { note(twin) { twin.report('notes', (twin.state.notes ?? 0) + 1); } },
  async run(message, context) {
    const { memory, key, attempt } = context;
    if (message.crash && attempt === 1) return undefined.x;
    if ((message.fails ?? 0) >= attempt) throw new Refusal(`not at attempt ${attempt}`);
    if (message.note) await context.other('ledger').call('note');
    memory.script.seen = [...(memory.script.seen ?? []), `${key}:${typeof message === 'string' ? message : message.n}`];
    if (context.twin) memory.twin = { by: context.by, id: context.id, headers: context.headers, attempt, n: message.n };
  },
});
