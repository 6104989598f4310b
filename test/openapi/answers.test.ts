/** Answers of APIs as results of tools. */
import { Validator } from '@cfworker/json-schema'
import { describe, expect, it } from 'vitest'
import { type ApiTool, readAnswer } from '../../src/openapi/index.ts'
import { aDocument, toolOf, toolsOf } from '../support/openapi-tools.ts'

const json = (schema: unknown): object => ({ 'application/json': { schema } })

const answering = (content: object, status = '200'): Promise<ApiTool> =>
  toolOf({ operationId: 'get', responses: { [status]: { description: '', content } } }, { method: 'get' })

const answer = (
  body: string | Buffer,
  type: string | undefined = 'application/json',
  more: { status?: number; isCut?: boolean; headers?: string[] } = {},
) => ({
  status: 200,
  headers: type === undefined ? [] : ['content-type', type],
  body: Buffer.from(body),
  isCut: false,
  ...more,
})

const pet = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string' }, age: { type: 'integer' }, tags: { type: 'array', items: { type: 'string' } } },
}

describe('answers', () => {
  it('of JSON are structured content and text', async () => {
    const tool = await answering(json(pet))
    expect(await readAnswer(tool, answer('{"id":"a","age":1,"more":true}', 'application/json; charset=utf-8'))).toEqual(
      {
        isError: false,
        structured: { id: 'a', age: 1, more: true },
        content: [{ type: 'text', text: '{"id":"a","age":1,"more":true}' }],
        deviations: [],
      },
    )
  })

  it('that differ are reported, and what differs is in the text alone', async () => {
    const tool = await answering(json(pet))
    const read = await readAnswer(tool, answer('{"id":"a","age":"old","tags":["x",1,"y"],"more":{"z":1}}'))
    expect(read).toMatchObject({ isError: false, structured: { id: 'a', more: { z: 1 } } })
    expect(read.deviations).toEqual(['age: must be integer.', 'tags.1: must be string.'])
    expect(new Validator(tool.outputSchema!, '2020-12').validate(read.structured).valid).toBe(true)
    for (const body of ['[]', 'null', '5', '{"tags":[1,2,3,4,5],"age":null}', '{not json'])
      expect(
        new Validator(tool.outputSchema!, '2020-12').validate((await readAnswer(tool, answer(body))).structured).valid,
        body,
      ).toBe(true)
  })

  it('that differ in many places lose those places, and long ones whole members', async () => {
    const tool = await answering(
      json({ type: 'object', properties: { items: { type: 'array', items: pet }, total: { type: 'integer' } } }),
    )
    const items = Array.from({ length: 1000 }, (_, at) => ({ id: String(at), age: null, note: 'x' }))
    const short = await readAnswer(tool, answer(JSON.stringify({ items, total: 1000 })))
    expect(short.structured).toEqual({ items: items.map(({ id, note }) => ({ id, note })), total: 1000 })
    expect(short.deviations.length).toBe(10)
    const long = await readAnswer(tool, answer(JSON.stringify({ items, more: 'x'.repeat(300_000), total: 1000 })))
    expect(Object.keys(long.structured!)).toEqual(['more', 'total'])
    expect(long.deviations).toEqual(['items.0.age: must be integer.'])
  })

  it('that are no object are `result`', async () => {
    const tool = await answering(json({ type: 'array', items: pet }))
    expect(tool.outputSchema).toMatchObject({ type: 'object', properties: { result: { type: 'array' } } })
    expect((await readAnswer(tool, answer('[{"id":"a"}]'))).structured).toEqual({ result: [{ id: 'a' }] })
  })

  it('of several forms have them all', async () => {
    const tool = await toolOf({
      responses: {
        200: { description: '', content: json(pet) },
        201: { description: '', content: json({ type: 'object', properties: { created: { type: 'boolean' } } }) },
        204: { description: '' },
        '4XX': { description: '', content: json({ type: 'object' }) },
      },
    })
    expect(tool.outputSchema).toMatchObject({
      type: 'object',
      anyOf: [{ properties: { id: {} } }, { properties: { created: {} } }],
    })
    expect(await readAnswer(tool, answer('', undefined, { status: 204 }))).toEqual({
      isError: false,
      structured: {},
      content: [{ type: 'text', text: 'Done (HTTP status 204).' }],
      deviations: [],
    })
    expect((await readAnswer(tool, answer('{}', 'application/json', { status: 202 }))).deviations).toEqual([
      'The document has no answer with the status 202.',
    ])
  })

  it('with integers that no number holds keep them', async () => {
    const tool = await answering(json({ type: 'object', properties: { id: { type: 'integer', format: 'int64' } } }))
    const read = await readAnswer(tool, answer('{"id":9007199254740993}'))
    expect(read).toMatchObject({ structured: { id: '9007199254740993' }, deviations: [] })
    expect(read.content).toEqual([{ type: 'text', text: '{"id":9007199254740993}' }])
  })

  it('are reduced to what the file selects', async () => {
    const [tool] = await toolsOf(
      aDocument({
        '/a': {
          get: {
            operationId: 'a',
            responses: {
              200: {
                description: '',
                content: json({
                  type: 'object',
                  properties: { items: { type: 'array', items: pet }, total: { type: 'integer' }, next: {} },
                }),
              },
            },
          },
        },
      }),
      { tools: [{ operation: 'a', parameters: {}, effects: {}, select: ['/items/*/id', '/total'] }] },
    )
    expect(tool!.outputSchema).toEqual({
      type: 'object',
      properties: {
        items: { type: 'array', items: { type: 'object', properties: { id: { type: 'string' } } } },
        total: { type: 'integer' },
      },
    })
    const read = await readAnswer(tool!, answer('{"items":[{"id":"a","age":1},{"id":"b"}],"total":2,"next":"x"}'))
    expect(read.structured).toEqual({ items: [{ id: 'a' }, { id: 'b' }], total: 2 })
    expect(read.content).toEqual([{ type: 'text', text: JSON.stringify(read.structured) }])
  })

  it('of writeOnly members are described without them', async () => {
    const tool = await answering(
      json({ type: 'object', properties: { a: {}, password: { type: 'string', writeOnly: true } } }),
    )
    expect(tool.outputSchema).toEqual({ type: 'object', properties: { a: {} } })
  })

  it('of other kinds are text, images, sounds and resources', async () => {
    const tool = await answering({
      'text/event-stream': {},
      'image/png': {},
      'application/zip': {},
      'application/xml': {},
    })
    expect(tool.outputSchema).toBeUndefined()
    const content = async (body: string | Buffer, type: string) =>
      (await readAnswer(tool, answer(body, type))).content[0]
    expect(await content('data: x\n\n', 'text/event-stream')).toEqual({ type: 'text', text: 'data: x\n\n' })
    expect(await content('<a/>', 'application/xml')).toEqual({ type: 'text', text: '<a/>' })
    expect(await content(Buffer.from([0xe9]), 'text/plain; charset=iso-8859-1')).toEqual({ type: 'text', text: 'é' })
    expect(await content('x', 'image/png')).toEqual({ type: 'image', data: 'eA==', mimeType: 'image/png' })
    expect(await content('x', 'audio/mpeg')).toEqual({ type: 'audio', data: 'eA==', mimeType: 'audio/mpeg' })
    expect(await content('x', 'application/zip')).toEqual({
      type: 'resource',
      resource: { uri: 'answer:get', mimeType: 'application/zip', blob: 'eA==' },
    })
  })

  it('promise 9: that are too long are cut where that says something, else refused', async () => {
    const tool = await answering(json(pet))
    const cut = { isCut: true }
    expect(await readAnswer(tool, answer('{"id":"a', 'application/json', cut))).toMatchObject({ isError: true })
    expect(await readAnswer(tool, answer('x', 'image/png', cut))).toMatchObject({ isError: true })
    expect(await readAnswer(tool, answer('one two', 'text/plain', cut))).toMatchObject({
      isError: false,
      content: [{ text: 'one two\n[The answer is longer than 1048576 bytes; the rest is left out.]' }],
    })
  })

  it('promise 9: that refuse say so, with status, words and when to call again', async () => {
    const tool = await answering(json(pet))
    const read = await readAnswer(tool, {
      ...answer('{"error":"no such pet"}', 'application/problem+json', { status: 429 }),
      headers: ['Content-Type', 'application/problem+json', 'retry-after', '30'],
    })
    expect(read).toEqual({
      isError: true,
      content: [
        {
          type: 'text',
          text: 'The API answered GET /things with HTTP status 429.\nIt may be called again after: 30.\n{"error":"no such pet"}',
        },
      ],
      deviations: [],
    })
    const redirected = await readAnswer(tool, answer('', 'text/html', { status: 302 }))
    expect(redirected.isError).toBe(true)
    const long = await readAnswer(tool, answer('x'.repeat(100_000), 'text/plain', { status: 500 }))
    expect((long.content[0] as { text: string }).text.length).toBeLessThan(4200)
  })
})
