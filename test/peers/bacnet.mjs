// A BACnet/IP device made of npm's node-bacnet, for the test of the driver. It prints its port, then what is written to it.
import { createSocket } from 'node:dgram'
import bacnet from 'node-bacnet'

const { ApplicationTag: tag, ErrorClass, ErrorCode, ObjectType: type, PropertyIdentifier: id } = bacnet.enum
const device = 1234
const key = (object, property) => `${object.type}:${object.instance}:${property}`
const values = new Map()
const put = (objectType, instance, property, ...data) => values.set(key({ type: objectType, instance }, property), data)
const real = (value) => ({ type: tag.REAL, value })
put(type.DEVICE, device, id.OBJECT_IDENTIFIER, { type: tag.OBJECTIDENTIFIER, value: { type: type.DEVICE, instance: device } })
put(type.DEVICE, device, id.OBJECT_NAME, { type: tag.CHARACTER_STRING, value: 'Lüftung' })
put(type.DEVICE, device, id.VENDOR_NAME, { type: tag.CHARACTER_STRING, value: 'npm' })
put(type.DEVICE, device, id.MODEL_NAME, { type: tag.CHARACTER_STRING, value: 'node-bacnet' })
put(type.DEVICE, device, id.SYSTEM_STATUS, { type: tag.ENUMERATED, value: 0 })
put(type.DEVICE, device, id.OBJECT_LIST, { type: tag.OBJECTIDENTIFIER, value: { type: type.ANALOG_INPUT, instance: 1 } },
  { type: tag.OBJECTIDENTIFIER, value: { type: type.DEVICE, instance: device } })
put(type.ANALOG_INPUT, 1, id.PRESENT_VALUE, real(21.5))
put(type.ANALOG_INPUT, 2, id.PRESENT_VALUE, real(-40.25))
put(type.ANALOG_VALUE, 1, id.PRESENT_VALUE, real(20))
put(type.BINARY_OUTPUT, 1, id.PRESENT_VALUE, { type: tag.ENUMERATED, value: 1 })
put(type.MULTI_STATE_VALUE, 1, id.PRESENT_VALUE, { type: tag.UNSIGNED_INTEGER, value: 3 })
put(type.ANALOG_INPUT, 1, id.DESCRIPTION, { type: tag.CHARACTER_STRING, value: 'supply air' })

// It takes no port 0: find one that is free.
const free = createSocket('udp4').bind(0, '127.0.0.1')
await new Promise((done) => free.once('listening', done))
const { port } = free.address()
await new Promise((done) => free.close(done))

const client = new bacnet({ port, interface: '127.0.0.1', reuseAddr: false })
client.on('error', (e) => { console.error(e); process.exit(1) })
client.on('whoIs', ({ header, payload }) => {
  if (payload.lowLimit === undefined || (payload.lowLimit <= device && device <= payload.highLimit)) {
    client.iAmResponse(header.sender, device, bacnet.enum.Segmentation.NO_SEGMENTATION, 15)
  }
})

const refuse = (m, code) => client.errorResponse(m.header.sender, m.service, m.invokeId, ErrorClass.OBJECT, code)

client.on('readProperty', (m) => {
  const { objectId, property } = m.payload
  if (objectId.type === type.DEVICE && objectId.instance === 4194303) objectId.instance = device
  const data = values.get(key(objectId, property.id))
  if (!data) return refuse(m, ErrorCode.UNKNOWN_OBJECT)
  client.readPropertyResponse(m.header.sender, m.invokeId, objectId, property, data)
})

// Sixteen priorities, as a commandable object has them.
const written = new Map()
const subscriptions = []

client.on('writeProperty', (m) => {
  const { objectId, value } = m.payload
  const at = key(objectId, value.property.id)
  if (!values.has(at)) return refuse(m, ErrorCode.UNKNOWN_OBJECT)
  if (objectId.type === type.ANALOG_INPUT) {
    return client.errorResponse(m.header.sender, m.service, m.invokeId, ErrorClass.PROPERTY, ErrorCode.WRITE_ACCESS_DENIED)
  }
  const slots = written.get(at) ?? Object.assign(Array(17), { 16: values.get(at)[0] })
  written.set(at, slots)
  const [datum] = value.value
  slots[value.priority] = datum.type === tag.NULL ? undefined : { type: datum.type, value: datum.value }
  values.set(at, [slots.find((s) => s) ?? { ...datum, type: tag.NULL, value: null }])
  console.log(`${at} ${datum.value} at ${value.priority}`)
  client.simpleAckResponse(m.header.sender, m.service, m.invokeId)
  tell(objectId)
})

client.on('subscribeCov', (m) => {
  const s = { ...m.payload, to: m.header.sender }
  console.log(`subscribed ${s.monitoredObjectId.type}:${s.monitoredObjectId.instance} ${s.issueConfirmedNotifications} ${s.lifetime}`)
  if (s.monitoredObjectId.type === type.ANALOG_INPUT && s.monitoredObjectId.instance === 2) {
    return client.errorResponse(m.header.sender, m.service, m.invokeId, ErrorClass.SERVICES, ErrorCode.COV_SUBSCRIPTION_FAILED)
  }
  subscriptions.push(s)
  client.simpleAckResponse(m.header.sender, m.service, m.invokeId)
  tell(s.monitoredObjectId)
})

function tell (object) {
  for (const s of subscriptions) {
    if (s.monitoredObjectId.type !== object.type || s.monitoredObjectId.instance !== object.instance) continue
    const list = [{ property: { id: id.PRESENT_VALUE }, value: values.get(key(object, id.PRESENT_VALUE)) },
      { property: { id: id.STATUS_FLAGS }, value: [{ type: tag.BIT_STRING, value: { bitsUsed: 4, value: [0] } }] }]
    if (s.issueConfirmedNotifications) {
      client.confirmedCOVNotification(s.to, object, s.subscriberProcessId, device, s.lifetime, list, {},
        (err) => console.log(`told ${object.type}:${object.instance} ${err ? err.message : 'ok'}`))
    } else {
      client.unconfirmedCOVNotification(s.to.address, s.subscriberProcessId, device, object, s.lifetime, list)
    }
  }
}

// A value that changes by itself.
setInterval(() => {
  const [v] = values.get(key({ type: type.ANALOG_INPUT, instance: 1 }, id.PRESENT_VALUE))
  v.value = v.value === 21.5 ? 22.25 : 21.5
  tell({ type: type.ANALOG_INPUT, instance: 1 })
}, 500)

client.on('listening', () => console.log(`port ${port}`))
