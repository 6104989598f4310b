/** Schemas of documents in the form that reaches clients. */
import { describe, expect, it } from 'vitest'
import { readDocument } from '../../src/openapi/index.ts'
import { aDocument, toolOf, toolsOf, toolWith } from '../support/openapi-tools.ts'

const Base = {
  type: 'object',
  required: ['kind'],
  properties: { kind: { type: 'string' } },
  discriminator: { propertyName: 'kind' },
}
const Cat = {
  allOf: [{ $ref: '#/components/schemas/Base' }, { type: 'object', properties: { lives: { type: 'integer' } } }],
}
const components = { schemas: { Base, Cat, Name: { type: 'string', description: 'A name.' } } }

/** What is in the document, and what the argument's schema is. */
const rows: readonly [string, unknown, object][] = [
  ['nullable of 3.0', { type: 'string', nullable: true }, { type: ['string', 'null'] }],
  [
    'nullable with values',
    { type: 'string', nullable: true, enum: ['a'] },
    { type: ['string', 'null'], enum: ['a', null] },
  ],
  [
    'nullable beside a choice',
    { nullable: true, anyOf: [{ type: 'string' }, { type: 'integer' }] },
    { anyOf: [{ type: 'string' }, { type: 'integer' }, { type: 'null' }] },
  ],
  [
    'nullable beside allOf',
    { nullable: true, allOf: [{ $ref: '#/components/schemas/Name' }] },
    { type: ['string', 'null'], description: 'A name.' },
  ],
  ['lists of types', { type: ['string', 'null'], minLength: 1 }, { type: ['string', 'null'], minLength: 1 }],
  ['const', { const: 'a' }, { const: 'a' }],
  [
    'exclusiveMinimum of 3.0',
    { type: 'number', minimum: 0, exclusiveMinimum: true },
    { type: 'number', exclusiveMinimum: 0 },
  ],
  ['exclusiveMaximum of 3.1', { type: 'number', exclusiveMaximum: 5 }, { type: 'number', exclusiveMaximum: 5 }],
  ['bounds beyond 2^53', { type: 'integer', minimum: -(2 ** 63), maximum: 2 ** 64 }, { type: 'integer' }],
  ['fractions as steps', { type: 'number', multipleOf: 0.01 }, { type: 'number' }],
  ['oneOf', { oneOf: [{ type: 'string' }, { type: 'integer' }] }, { anyOf: [{ type: 'string' }, { type: 'integer' }] }],
  ['a choice of one', { anyOf: [{ type: 'string' }] }, { type: 'string' }],
  [
    'a choice of values',
    { type: 'integer', oneOf: [{ const: 1, title: 'ONE', description: 'One.' }, { const: 2 }] },
    { type: 'integer', enum: [1, 2], description: '1: One.' },
  ],
  [
    'a choice with null',
    { oneOf: [{ type: 'null' }, { $ref: '#/components/schemas/Name' }] },
    { type: ['string', 'null'], description: 'A name.' },
  ],
  ['a choice with anything', { anyOf: [{ type: 'string' }, {}] }, {}],
  [
    'allOf of objects',
    { $ref: '#/components/schemas/Cat' },
    {
      type: 'object',
      description: '`kind` says which form it is.',
      properties: { kind: { type: 'string' }, lives: { type: 'integer' } },
      required: ['kind'],
    },
  ],
  [
    'a member of one branch that another branch of allOf requires',
    {
      allOf: [
        { type: 'object', properties: { email: { type: 'string' }, id: { type: 'string', readOnly: true } } },
        { type: 'object', required: ['email', 'id', 'lost'], properties: { type: { type: 'string' } } },
      ],
    },
    {
      type: 'object',
      properties: { email: { type: 'string' }, type: { type: 'string' } },
      required: ['email'],
    },
  ],
  [
    'allOf that is no one schema',
    {
      allOf: [
        { type: 'string', pattern: '^a' },
        { type: 'string', pattern: '^b' },
      ],
    },
    { type: 'string', pattern: '^a', allOf: [{ type: 'string', pattern: '^b' }] },
  ],
  [
    'closed objects in allOf',
    {
      allOf: [
        { type: 'object', additionalProperties: false, properties: { a: {} } },
        { type: 'object', properties: { b: {} } },
      ],
    },
    { type: 'object', properties: { a: {}, b: {} } },
  ],
  [
    'a discriminator with a mapping',
    {
      oneOf: [{ $ref: '#/components/schemas/Base' }, { type: 'string' }],
      discriminator: { propertyName: 'kind', mapping: { base: 'Base' } },
    },
    {
      description: '`kind` says which form it is: base.',
      anyOf: [
        {
          type: 'object',
          description: '`kind` says which form it is.',
          properties: { kind: { type: 'string', const: 'base' } },
          required: ['kind'],
        },
        { type: 'string' },
      ],
    },
  ],
  [
    'a description beside a reference',
    { $ref: '#/components/schemas/Name', description: 'Another.' },
    { type: 'string', description: 'Another.' },
  ],
  [
    'constraints beside a reference',
    { $ref: '#/components/schemas/Name', maxLength: 3 },
    { type: 'string', description: 'A name.', maxLength: 3 },
  ],
  [
    'readOnly members',
    {
      type: 'object',
      required: ['id', 'a'],
      properties: { id: { type: 'string', readOnly: true }, a: {}, secret: { writeOnly: true } },
    },
    { type: 'object', properties: { a: {}, secret: {} }, required: ['a'] },
  ],
  ['lists without items', { type: 'array' }, { type: 'array', items: {} }],
  [
    'prefixItems',
    { prefixItems: [{ type: 'string' }], items: false },
    { type: 'array', prefixItems: [{ type: 'string' }], items: { not: {} } },
  ],
  [
    'maps',
    { type: 'object', additionalProperties: { type: 'string' } },
    { type: 'object', additionalProperties: { type: 'string' } },
  ],
  [
    'patternProperties',
    { type: 'object', patternProperties: { '^x-': {} }, additionalProperties: false },
    { type: 'object' },
  ],
  [
    'uniqueItems of objects',
    { type: 'array', items: { type: 'object' }, uniqueItems: true },
    { type: 'array', items: { type: 'object' } },
  ],
  ['boolean schemas', true, {}],
  ['formats that clients know', { type: 'string', format: 'date-time' }, { type: 'string', format: 'date-time' }],
  ['formats that clients do not know', { type: 'string', format: 'color' }, { type: 'string' }],
  ['bytes', { type: 'string', format: 'byte' }, { type: 'string', contentEncoding: 'base64' }],
  [
    'defaults, examples, extensions',
    { type: 'integer', default: 5, example: 1, examples: [2], xml: {}, 'x-order': 1 },
    { type: 'integer', default: 5 },
  ],
  [
    'not, if, dependentSchemas',
    { type: 'string', not: { const: 'a' }, if: {}, else: {}, dependentSchemas: {} },
    { type: 'string' },
  ],
  [
    'members that have the names of keywords',
    { type: 'object', properties: { $ref: { type: 'string' }, type: { type: 'string' }, enum: {} } },
    { type: 'object', properties: { $ref: { type: 'string' }, type: { type: 'string' }, enum: {} } },
  ],
]

describe('schemas', () => {
  for (const [what, schema, expected] of rows)
    it(what, async () => {
      const { inputSchema } = await toolWith(schema, { components })
      expect((inputSchema.properties as { value: object }).value).toEqual(expected)
    })

  it('of OpenAPI 2.0 and 3.0 say what those say', async () => {
    const old = await readDocument(
      JSON.stringify({
        swagger: '2.0',
        info: { title: 'Old', version: '1' },
        host: 'api.example.com',
        basePath: '/v1',
        schemes: ['https'],
        consumes: ['application/json'],
        produces: ['application/json'],
        paths: {
          '/pets': {
            post: {
              operationId: 'add',
              parameters: [
                { name: 'tags', in: 'query', type: 'array', items: { type: 'string' }, collectionFormat: 'pipes' },
                { name: 'pet', in: 'body', required: true, schema: { $ref: '#/definitions/Pet' } },
              ],
              responses: { 200: { description: '', schema: { $ref: '#/definitions/Pet' } } },
            },
          },
        },
        definitions: {
          Pet: { type: 'object', required: ['name'], properties: { name: { type: 'string', 'x-nullable': true } } },
        },
      }),
    )
    const [tool] = await toolsOf(old.root)
    expect(tool!.inputSchema).toEqual({
      type: 'object',
      properties: { tags: { type: 'array', items: { type: 'string' } }, name: { type: ['string', 'null'] } },
      required: ['name'],
      additionalProperties: false,
    })
    expect(tool!.outputSchema).toEqual({ type: 'object', properties: { name: { type: ['string', 'null'] } } })
    expect(tool!.operation).toMatchObject({ origin: 'https://api.example.com', path: '/v1/pets', method: 'POST' })
    expect(tool!.operation.parameters).toMatchObject([{ style: 'pipeDelimited', explode: false }])
  })
})

describe('arguments', () => {
  it('of parameters and body share a name in one way, and say where they are from', async () => {
    const tool = await toolOf(
      {
        parameters: [
          { name: 'id', in: 'path', required: true, schema: {} },
          { name: 'id', in: 'query', schema: {} },
          { name: 'created<', in: 'query', schema: {} },
          { name: 'created>', in: 'query', schema: {} },
          { name: 'created', in: 'query', schema: {} },
          { name: 'filter[name]', in: 'query', schema: {} },
          { name: 'ids[]', in: 'query', schema: {} },
        ],
        requestBody: {
          required: true,
          content: { 'application/json': { schema: { type: 'object', properties: { id: {}, ids: {} } } } },
        },
      },
      { path: '/things/{id}' },
    )
    expect(Object.keys(tool.inputSchema.properties as object)).toEqual([
      'id',
      'query_id',
      'created_before',
      'created_after',
      'created',
      'filter_name',
      'query_ids',
      'body_id',
      'ids',
    ])
  })

  it('come from the file of the API where it says so', async () => {
    const operation = {
      operationId: 'search',
      parameters: [
        { name: 'q', in: 'query', required: true, schema: { type: 'string' } },
        { name: 'lang', in: 'query', schema: { type: 'string' } },
        { name: 'debug', in: 'query', schema: { type: 'boolean' } },
        { name: 'size', in: 'query', schema: { type: 'integer' } },
      ],
    }
    const of = (parameters: object) =>
      toolsOf(aDocument({ '/s': { get: operation } }), {
        tools: [{ operation: 'GET /s', name: 'find', parameters: parameters as never, effects: { idempotent: false } }],
      })
    const [tool] = await of({
      q: { name: 'text', description: 'What to find.', hidden: false },
      lang: { value: 'en', hidden: false },
      'query:debug': { hidden: true },
      size: { default: 10, hidden: false },
    })
    expect(tool!.name).toBe('find')
    expect(tool!.effects).toEqual({ readOnly: true, destructive: false, idempotent: false })
    expect(tool!.inputSchema).toEqual({
      type: 'object',
      properties: { text: { type: 'string', description: 'What to find.' }, size: { type: 'integer', default: 10 } },
      required: ['text'],
      additionalProperties: false,
    })
    for (const [parameters, message] of [
      [{ q: { hidden: true } }, /The parameter q is required, so it cannot be hidden/],
      [{ page: { hidden: true } }, /It has no parameter page/],
    ] as const)
      await expect(of(parameters)).rejects.toThrow(message)
    // The one that is not renamed gives way.
    expect(
      Object.keys((await of({ q: { name: 'size', hidden: false } }))[0]!.inputSchema.properties as object),
    ).toContain('query_size')
  })
})
