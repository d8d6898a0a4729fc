// What the room does by itself, as one logic. It is in use from 08:00 to 18:00 on weekdays; somebody is there from the first motion until
// ten minutes without. Then the projector is on, and the lamps are where it is dark.
export default logic({
  name: 'aula',
  version: '1.0.0',
  title: 'Aula',
  settings: {
    opens: { type: 'string', default: '0 8 * * mon-fri' },
    closes: { type: 'string', default: '0 18 * * mon-fri' },
    zone: { type: 'string', default: 'Europe/Berlin' },
    empty_after: { type: 'string', default: '10m' },
    dark: { type: 'number', default: 200 },
    bright: { type: 'number', default: 400 },
  },
  properties: {
    open: { type: 'boolean', async set(twin, open) { twin.report({ open }); await decide(twin); } }, // by hand
    occupied: 'boolean', lux: 'number', light: 'boolean', projector: 'boolean',
  },

  load(twin) {
    twin.member('Motion_1').subscribe('occupancy');
    twin.member('Lux_1').subscribe('illuminance');
    twin.cron('opens', twin.settings.opens, twin.settings.zone);
    twin.cron('closes', twin.settings.closes, twin.settings.zone);
  },
  async changed(twin, { property, value, quality }) {
    if (quality === 'bad') return;
    if (property === 'illuminance') twin.report('lux', value);
    else if (!value) twin.after('left', twin.settings.empty_after);
    else {
      twin.cancel('left');
      twin.report('occupied', true);
    }
    await decide(twin);
  },
  timers: {
    async opens(twin) { twin.report('open', true); await decide(twin); },
    async closes(twin) { twin.report('open', false); await decide(twin); },
    async left(twin) { twin.report('occupied', false); await decide(twin); },
  },
});

async function decide(twin) {
  const { open, occupied, lux, light } = twin.state;
  const { dark, bright } = twin.settings;
  const used = open === true && occupied === true;
  await want(twin, 'projector', used, { Display_1: 'power' });
  await want(twin, 'light', used && (light ? !(lux > bright) : lux < dark), { Light_1: 'on', Light_2: 'on' });
}

// want asks the devices for what is not asked of them already. What they are asked stays asked while they are away.
async function want(twin, what, on, devices) {
  if ((twin.state[what] ?? false) === on) return;
  for (const [name, property] of Object.entries(devices)) await twin.member(name).set(property, on);
  twin.report(what, on);
  console.log(what, on ? 'on' : 'off');
}
