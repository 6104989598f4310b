/** What a conversion of schemas keeps, for all schemas and values. */
import { Validator } from '@cfworker/json-schema'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type JsonSchema, readAnswer } from '../../src/openapi/index.ts'
import { toolOf } from '../support/openapi-tools.ts'

const scalars = fc.constantFrom<unknown>('', 'a', 'ab', 'abcdef', '2026-01-05', 0, 1, 2, 4, -3, 2.5, true, null)

const values = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    scalars,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'c', 'x-d'), tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value

const count = fc.integer({ min: 0, max: 3 })
const bound = fc.integer({ min: -1, max: 4 })

/** Schemas as documents have them: each with its type, because documents leave it out where they mean an object. */
const schemas = fc.letrec<{ schema: unknown }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3 },
    fc.boolean(),
    fc.constantFrom({ $ref: '#/components/schemas/Tree' }, { $ref: '#/components/schemas/Pet' }, {}),
    fc.record(
      {
        type: fc.constantFrom('string', ['string', 'null'], ['integer', 'string']),
        minLength: count,
        maxLength: count,
        pattern: fc.constantFrom('^a', '(a+)+$', 'b$'),
        enum: fc.uniqueArray(scalars, { minLength: 1, maxLength: 3 }),
      },
      { requiredKeys: ['type'] },
    ),
    fc.record(
      {
        type: fc.constantFrom('integer', 'number', ['number', 'null']),
        minimum: bound,
        exclusiveMaximum: bound,
        multipleOf: fc.constantFrom(1, 2, 0.5),
        const: scalars,
      },
      { requiredKeys: ['type'] },
    ),
    fc.record(
      {
        type: fc.constantFrom('object', ['object', 'null']),
        properties: fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('schema'), { maxKeys: 3, noNullPrototype: true }),
        required: fc.uniqueArray(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 2 }),
        additionalProperties: tie('schema'),
        patternProperties: fc.constant({ '^x-': {} }),
        maxProperties: count,
        description: fc.constant('An object.'),
      },
      { requiredKeys: ['type'] },
    ),
    fc.record(
      {
        type: fc.constant('array'),
        items: tie('schema'),
        prefixItems: fc.array(tie('schema'), { minLength: 1, maxLength: 2 }),
        uniqueItems: fc.constant(true),
        minItems: count,
      },
      { requiredKeys: ['type'] },
    ),
    fc.record(
      {
        anyOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }),
        oneOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }),
        allOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }),
        not: tie('schema'),
        if: tie('schema'),
      },
      { requiredKeys: [] },
    ),
  ),
})).schema

const components = {
  schemas: {
    Tree: {
      type: 'object',
      required: ['a'],
      properties: { a: { type: 'string' }, b: { type: 'array', items: { $ref: '#/components/schemas/Tree' } } },
    },
    Pet: { allOf: [{ $ref: '#/components/schemas/Tree' }, { type: 'object', properties: { c: { type: 'integer' } } }] },
  },
}

const takes = (schema: object, value: unknown): boolean => new Validator(schema, '2020-12').validate(value).valid

const operation = (schema: unknown): object => ({
  parameters: [{ name: 'value', in: 'query', schema }],
  responses: { 200: { description: '', content: { 'application/json': { schema } } } },
})

describe('schemas', () => {
  it('promise 9: of arguments refuse no value that the document takes', async () => {
    let taken = 0
    await fc.assert(
      fc.asyncProperty(schemas, fc.array(values, { minLength: 6, maxLength: 6 }), async (schema, some) => {
        const { inputSchema } = await toolOf(operation(schema), { more: { components } })
        const made = (inputSchema.properties as { value: JsonSchema }).value
        for (const value of some) {
          if (!takes({ allOf: [schema], components }, value)) continue
          taken += 1
          expect({ value, made, taken: takes(made, value) }).toEqual({ value, made, taken: true })
        }
      }),
      { numRuns: 500 },
    )
    expect(taken).toBeGreaterThan(100)
  })

  it('promise 9: of answers are what structured content is, whatever the API answers', async () => {
    await fc.assert(
      fc.asyncProperty(schemas, values, async (schema, value) => {
        const tool = await toolOf(operation(schema), { more: { components } })
        const { structured, content } = await readAnswer(tool, {
          status: 200,
          headers: ['content-type', 'application/json'],
          body: Buffer.from(JSON.stringify(value)),
          isCut: false,
        })
        expect({ structured, taken: takes(tool.outputSchema!, structured) }).toEqual({ structured, taken: true })
        expect(content).toEqual([{ type: 'text', text: JSON.stringify(value) }])
      }),
      { numRuns: 150 },
    )
  })
})
