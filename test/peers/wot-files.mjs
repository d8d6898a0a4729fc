// Checks files of a directory by the W3C's schemas: *.td.json are Thing Descriptions, *.tm.json Thing Models. It prints how many.
import { createRequire } from 'node:module'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Ajv from 'ajv'
import addFormats from 'ajv-formats'

const require = createRequire(import.meta.url)
const ajv = addFormats(new Ajv({ strict: false, allErrors: true }))
const checks = {
  td: ajv.compile(require('wot-thing-description-types/schema/td-json-schema-validation.json')),
  tm: ajv.compile(require('wot-thing-model-types/schema/tm-json-schema-validation.json')),
}
const dir = process.argv[2]
let checked = 0
let wrong = 0
for (const name of readdirSync(dir)) {
  const check = checks[/\.(t[dm])\.json$/.exec(name)?.[1]]
  if (check === undefined) continue
  checked++
  if (!check(JSON.parse(readFileSync(join(dir, name), 'utf8')))) {
    wrong++
    console.log(`${name}: ${ajv.errorsText(check.errors)}`)
  }
}
console.log(`${checked} checked, ${wrong} wrong`)
