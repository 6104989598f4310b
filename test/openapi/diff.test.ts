/** Which change of a document breaks a caller. */
import { Validator } from '@cfworker/json-schema'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { diffTools, type JsonSchema } from '../../src/openapi/index.ts'
import { narrowings } from '../../src/openapi/schema-diff.ts'
import { aDocument, toolsOf } from '../support/openapi-tools.ts'

const scalars = fc.constantFrom<unknown>('', 'a', 'ab', 'abcdef', 0, 1, 2, 4, -3, 2.5, true, null)

const values = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 2 },
    scalars,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value

const bound = fc.integer({ min: -1, max: 4 })
const count = fc.integer({ min: 0, max: 3 })
const types = fc.constantFrom('null', 'boolean', 'object', 'array', 'number', 'string', 'integer')

/** Schemas of the dialect that reaches clients. */
const schemas = fc.letrec<{ schema: JsonSchema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 2 },
    fc.record(
      {
        type: fc.oneof(types, fc.uniqueArray(types, { minLength: 1, maxLength: 3 })),
        enum: fc.uniqueArray(scalars, { minLength: 1, maxLength: 3 }),
        minimum: bound,
        exclusiveMaximum: bound,
        multipleOf: fc.integer({ min: 1, max: 4 }),
        minLength: count,
        maxLength: count,
        maxItems: count,
        minProperties: count,
        pattern: fc.constantFrom('^a', '^[a-c]+$'),
        uniqueItems: fc.constant(true),
      },
      { requiredKeys: [] },
    ),
    fc.record(
      {
        type: fc.constantFrom('object', ['object', 'null'], 'array'),
        properties: fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('schema'), { maxKeys: 3 }),
        required: fc.uniqueArray(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 2 }),
        additionalProperties: fc.oneof(fc.constant<JsonSchema | false>(false), tie('schema')),
        items: tie('schema'),
        prefixItems: fc.array(tie('schema'), { minLength: 1, maxLength: 2 }),
      },
      { requiredKeys: [] },
    ),
    fc.record({ anyOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }) }),
    fc.record(
      { allOf: fc.array(tie('schema'), { minLength: 1, maxLength: 2 }), type: types },
      { requiredKeys: ['allOf'] },
    ),
    fc.constant({ not: {} }),
  ) as fc.Arbitrary<JsonSchema>,
})).schema

/** A schema, and one that was made of it by a small change: two schemas by chance have little in common. */
const changed = schemas.chain((schema) =>
  fc.record({ from: fc.constant(schema), more: schemas }).map(({ from, more }) => ({ from, to: { ...from, ...more } })),
)

const takes = (schema: JsonSchema, value: unknown): boolean => new Validator(schema, '2020-12').validate(value).valid

describe('narrowings', () => {
  it('promise 9: a change without any refuses no value that was taken', () => {
    let compatible = 0
    fc.assert(
      fc.property(
        fc.oneof(changed, fc.record({ from: schemas, to: schemas })),
        fc.boolean(),
        fc.array(values, { minLength: 8, maxLength: 8 }),
        ({ from, to }, isReversed, some) => {
          const [before, after] = isReversed ? [to, from] : [from, to]
          if (narrowings(before, after).length > 0) return
          compatible += 1
          for (const value of some)
            if (takes(before, value)) expect({ value, taken: takes(after, value) }).toEqual({ value, taken: true })
        },
      ),
      { numRuns: 1200 },
    )
    expect(compatible).toBeGreaterThan(50)
  })

  it('none where nothing changed, or where a schema takes everything', () => {
    fc.assert(
      fc.property(schemas, (schema) => {
        expect(narrowings(schema, structuredClone(schema))).toEqual([])
        expect(narrowings(schema, {})).toEqual([])
      }),
    )
  })
})

const anOperation = (query: object, answer: object, more: object = {}): object => ({
  operationId: 'list',
  parameters: Object.entries(query).map(([name, each]) => ({ name, in: 'query', ...(each as object) })),
  responses: { 200: { description: '', content: { 'application/json': { schema: answer } } } },
  ...more,
})

const difference = async (before: object, after: object) => {
  const of = (operation: object) => toolsOf(aDocument({ '/a': { get: operation } }))
  return diffTools(await of(before), await of(after))
}

const text = { schema: { type: 'string' } }
const answer = { type: 'object', properties: { id: { type: 'string' } } }
const before = anOperation({ q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } } }, answer)

/** What changes, whether a caller breaks, and the words. */
const rows: readonly [string, object, boolean, string | undefined][] = [
  ['nothing', before, false, undefined],
  ['a parameter goes', anOperation({ q: text }, answer), true, 'argument /kind: it no longer exists'],
  [
    'a value goes',
    anOperation({ q: text, kind: { schema: { type: 'string', enum: ['a'] } } }, answer),
    true,
    'argument /kind: it no longer takes "b"',
  ],
  [
    'a parameter becomes required',
    anOperation({ q: { ...text, required: true }, kind: { schema: { type: 'string', enum: ['a', 'b'] } } }, answer),
    true,
    'argument /q: it is required',
  ],
  [
    'a required parameter comes',
    anOperation(
      { q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } }, n: { ...text, required: true } },
      answer,
    ),
    true,
    'argument /n: it is required',
  ],
  [
    'an optional parameter comes',
    anOperation({ q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } }, n: text }, answer),
    false,
    'takes more than before (/n)',
  ],
  [
    'a value comes',
    anOperation({ q: text, kind: { schema: { type: 'string', enum: ['a', 'b', 'c'] } } }, answer),
    false,
    'takes more than before (/kind)',
  ],
  [
    'a member of the answer comes',
    anOperation(
      { q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } } },
      { type: 'object', properties: { ...answer.properties, name: { type: 'string' } } },
    ),
    false,
    'its answer says more (/name)',
  ],
  [
    'a member of the answer goes',
    anOperation(
      { q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } } },
      { type: 'object', properties: {} },
    ),
    true,
    'answer /id: it never was null or boolean or object or array or number',
  ],
  [
    'a member of the answer can be null',
    anOperation(
      { q: text, kind: { schema: { type: 'string', enum: ['a', 'b'] } } },
      { type: 'object', properties: { id: { type: ['string', 'null'] } } },
    ),
    true,
    'answer /id: it never was null',
  ],
  ['a scope is needed', { ...before, security: [{ oauth: ['write'] }] }, true, 'needs the scopes write as well'],
  ['it is deprecated', { ...before, deprecated: true }, false, 'is deprecated'],
]

describe('diffTools', () => {
  for (const [what, after, breaks, words] of rows)
    it(`${what}: ${breaks ? 'breaks' : 'does not break'} a caller`, async () => {
      const of = (operation: object) =>
        toolsOf(
          aDocument(
            { '/a': { get: operation } },
            { components: { securitySchemes: { oauth: { type: 'oauth2', flows: {} } } } },
          ),
        )
      const found = diffTools(await of(before), await of(after))
      expect(found.map((each) => each.breaks)).toEqual(words === undefined ? [] : [breaks])
      expect(found[0]?.changes.map(({ message }) => message) ?? []).toEqual(words === undefined ? [] : [words])
    })

  it('names the tools that are new and gone, and those that break a caller first', async () => {
    const of = (paths: object) => toolsOf(aDocument(paths))
    const found = diffTools(
      await of({ '/a': { get: { operationId: 'a' } }, '/b': { get: { operationId: 'b' } } }),
      await of({ '/c': { get: { operationId: 'c' } }, '/b': { post: { operationId: 'b' } } }),
    )
    expect(found.map(({ tool, what, breaks }) => [tool, what, breaks])).toEqual([
      ['a', 'gone', true],
      ['b', 'changed', false],
      ['c', 'new', false],
    ])
    expect(found[1]!.changes.map(({ message }) => message)).toContain('readOnly is false')
    expect(await difference(before, before)).toEqual([])
  })
})
