// The demo's logic: the sign in the foyer is on while a room's projector is, and the twin says how many are.
export default logic({
  name: 'welcome',
  version: '1.0.0',
  title: 'Welcome sign',
  description: 'Has the sign in the foyer on while somebody shows something in one of the rooms.',
  settings: {
    rooms: { type: 'array', items: { type: 'string' }, title: 'Systems whose Display_1 counts', default: ['hall', 'boardroom', 'studio', 'seminar'] },
    sign: { type: 'string', title: 'Twin of the sign', default: 'foyer-sign' },
  },
  properties: { rooms_in_use: { type: 'integer', title: 'Rooms in use' } },
  load(twin) {
    for (const room of twin.settings.rooms) twin.other('Display_1', room).subscribe('power');
  },
  async changed(twin, { system, value }) {
    const { on = {} } = twin.memory;
    on[system] = value === true;
    twin.memory.on = on;
    const rooms = Object.values(on).filter(Boolean).length;
    const before = twin.state.rooms_in_use ?? 0;
    twin.report('rooms_in_use', rooms);
    if (rooms > 0 === before > 0) return;
    await twin.other(twin.settings.sign).set('on', rooms > 0);
    console.log('the sign goes', rooms > 0 ? 'on' : 'off');
  },
});
