// Clients of the plain REST API that know nothing of Pollux: an OpenAPI validator, the W3C's schemas of Thing Descriptions and
// Thing Models, and node-wot, which finds a twin in the directory, reads, writes, observes, invokes and subscribes it by what
// its Thing Description says. Each check that holds prints a line.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { Validator } from '@seriousme/openapi-schema-validator'
import Ajv from 'ajv'
import addFormats from 'ajv-formats'

const [base, key, twin] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const get = async (path, type) => {
  const res = await fetch(base + path, { headers: { Authorization: `Bearer ${key}` } })
  assert.equal(res.status, 200, `${path}: ${res.status}`)
  assert.equal(res.headers.get('content-type'), type, path)
  return res.json()
}

const openapi = await get('/openapi.json', 'application/json')
const described = await new Validator().validate(structuredClone(openapi))
assert.ok(described.valid, JSON.stringify(described.errors))
console.log('openapi', Object.keys(openapi.paths).length)

const ajv = addFormats(new Ajv({ strict: false, allErrors: true }))
const valid = (check, doc, what) => assert.ok(check(doc), `${what}: ${ajv.errorsText(check.errors)}`)
const isDescription = ajv.compile(require('wot-thing-description-types/schema/td-json-schema-validation.json'))
const isModel = ajv.compile(require('wot-thing-model-types/schema/tm-json-schema-validation.json'))
const td = await get(`/v1/twins/${twin}/td`, 'application/td+json')
valid(isDescription, td, 'Thing Description')
valid(isModel, await get(`/v1/twins/${twin}/tm`, 'application/tm+json'), 'Thing Model')
const directory = await get('/.well-known/wot', 'application/td+json')
valid(isDescription, directory, 'directory')
let things = 0
for (let path = '/v1/things?page_size=2'; path; ) {
  const res = await fetch(base + path, { headers: { Authorization: `Bearer ${key}` } })
  for (const thing of await res.json()) {
    valid(isDescription, thing, thing.id)
    things++
  }
  path = /<(.*)>; rel="next"/.exec(res.headers.get('link') ?? '')?.[1]
}
console.log('valid', things)

// node-wot's event source sends no Authorization, whatever the description's security says: it gets one here.
const source = require.resolve('eventsource', { paths: [require.resolve('@node-wot/binding-http')] })
const EventSource = require(source)
require.cache[source].exports = class extends EventSource {
  constructor(url, init = {}) {
    super(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${key}` } })
  }
}
const { Servient } = require('@node-wot/core')
const { HttpClientFactory } = require('@node-wot/binding-http')
const servient = new Servient()
servient.addClientFactory(new HttpClientFactory())
servient.addCredentials({ [td.id]: { token: key }, [directory.id]: { token: key } })
const wot = await servient.start()

const shelf = await wot.consume(directory)
const found = (await (await shelf.readProperty('things')).value()).find((t) => t.id === td.id)
assert.ok(found, `the directory has no ${td.id}`)
const thing = await wot.consume(found)

await thing.writeProperty('level', 12.5)
// What is written is asked of the device; until it has answered the former value is read.
const until = async (what, holds) => {
  for (const end = Date.now() + 30_000; !(await holds()); await new Promise((r) => setTimeout(r, 20))) {
    assert.ok(Date.now() < end, `no ${what} came`)
  }
}
await until('value', async () => {
  const answer = await thing.readProperty('level').catch(() => null)
  return answer !== null && (await answer.value()) === 12.5
})
console.log('read', 12.5)

const seen = []
const observing = await thing.observeProperty('level', async (data) => seen.push(await data.value()))
await until('first value', () => seen.length > 0)
await thing.writeProperty('level', 13)
await until('change', () => seen.length > 1)
assert.deepEqual(seen, [12.5, 13])
await observing.stop()
console.log('observed', ...seen)

const said = await (await thing.invokeAction('say', { text: 'wot' })).value()
assert.deepEqual(said, { text: 'hello wot' })
assert.equal(await (await thing.invokeAction('count')).value(), 1)
console.log('invoked', said.text)

const events = []
const subscribed = await thing.subscribeEvent('ticked', async (data) => events.push(await data.value()))
await thing.invokeAction('tick', { after_ms: 1 })
await until('event', () => events.length > 0)
assert.deepEqual(events, ['tock'])
await subscribed.stop()
console.log('event', events[0])

await assert.rejects(thing.invokeAction('fail', { text: 'no' }), /Conflict/)
console.log('refused')
await servient.shutdown()
process.exit(0)
