// Clients of MQTT 5 by MQTT.js, told what to do by lines of JSON: {n, op, client, …}. Each line is answered by {n, …} or
// {n, error}; what happens to a client is told as {client, event, …}.
import { createInterface } from 'node:readline'
import mqtt from 'mqtt'

const clients = new Map()
const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const ops = {
  connect: ({ client, url, options, hold }) =>
    new Promise((resolve, reject) => {
      const c = mqtt.connect(url, {
        clientId: client, protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 20000, ...options,
        ...(options?.will && { will: { ...options.will, payload: Buffer.from(options.will.payload) } }),
        // It takes one message, and neither acknowledges it nor looks at others.
        ...(hold && { customHandleAcks: (topic, payload) => tell({ client, event: 'message', topic, payload: payload.toString() }) }),
      })
      clients.set(client, c)
      c.on('message', (topic, payload, { qos, retain, dup, properties }) =>
        tell({ client, event: 'message', topic, payload: payload.toString(), qos, retain, dup, properties }))
      c.on('disconnect', ({ reasonCode }) => tell({ client, event: 'disconnect', code: reasonCode }))
      c.on('close', () => tell({ client, event: 'close' }))
      c.once('connect', ({ sessionPresent, reasonCode, properties }) => resolve({ sessionPresent, code: reasonCode, properties }))
      c.once('error', reject)
    }),
  subscribe: async ({ client, filters, options }) => ({ granted: await clients.get(client).subscribeAsync(filters, options) }),
  publish: async ({ client, topic, payload, options }) => {
    const packet = await clients.get(client).publishAsync(topic, payload, options)
    return { code: packet?.reasonCode ?? 0 }
  },
  end: async ({ client }) => {
    await clients.get(client).endAsync()
    return {}
  },
  // As if the device had lost its power.
  cut: ({ client }) => {
    clients.get(client).stream.destroy()
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, op, ...args } = JSON.parse(line)
  Promise.resolve()
    .then(() => ops[op](args))
    .then((answer) => tell({ n, ...answer }))
    .catch((error) => tell({ n, error: String(error), code: error.code }))
}
process.exit(0)
