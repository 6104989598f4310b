/** Bodies of requests, and the parameters that styles do not describe. */
import { describe, expect, it } from 'vitest'
import { buildRequest, validateArguments } from '../../src/openapi/index.ts'
import { aDocument, toolOf, toolsOf } from '../support/openapi-tools.ts'

const bodyTool = (content: object, required = true) => toolOf({ requestBody: { required, content } })

const sent = async (content: object, args: object, required = true) => {
  const { operation } = await bodyTool(content, required)
  const { headers, body } = buildRequest(operation, args as Record<string, unknown>)
  return { type: headers[headers.indexOf('content-type') + 1], body: body?.toString('latin1') }
}

const object = (properties: object, more: object = {}): object => ({ schema: { type: 'object', properties, ...more } })
const text = { type: 'string' }
const file = { type: 'string', format: 'binary' }

describe('bodies', () => {
  it('choose JSON before all others, and among JSON the thing itself', async () => {
    const schema = { schema: { type: 'object', properties: { a: text } } }
    expect(
      await sent(
        {
          'multipart/form-data': schema,
          'application/json-patch+json': { schema: { type: 'array' } },
          'application/merge-patch+json': schema,
          'application/xml': {},
        },
        { a: 'x' },
      ),
    ).toEqual({ type: 'application/merge-patch+json', body: '{"a":"x"}' })
    expect(await sent({ '*/*': schema }, { a: 'x' })).toEqual({ type: 'application/json', body: '{"a":"x"}' })
  })

  it('are one argument where they are no plain object', async () => {
    for (const schema of [
      { type: 'array', items: text },
      { anyOf: [{ type: 'object' }, text] },
      { type: 'object', additionalProperties: text },
    ]) {
      const tool = await bodyTool({ 'application/json': { schema } })
      expect(Object.keys(tool.inputSchema.properties as object)).toEqual(['body'])
    }
    // Without the body its required members are not required.
    const optional = await bodyTool({ 'application/json': object({ a: text }, { required: ['a'] }) }, false)
    expect(optional.inputSchema.required).toBeUndefined()
    expect(optional.inputSchema.properties).toEqual({
      a: { type: 'string', description: 'Needed where the call has a body.' },
    })
    expect(buildRequest(optional.operation, {})).not.toHaveProperty('body')
    expect(String(buildRequest(optional.operation, { a: 'x' }).body)).toBe('{"a":"x"}')
  })

  it('that are required are sent without arguments too', async () => {
    expect(await sent({ 'application/json': object({ a: text }) }, {})).toEqual({
      type: 'application/json',
      body: '{}',
    })
  })

  it('of forms follow the encoding of each property', async () => {
    const content = {
      'application/x-www-form-urlencoded': {
        schema: {
          type: 'object',
          properties: {
            a: text,
            list: { type: 'array' },
            csv: { type: 'array' },
            deep: { type: 'object' },
            data: { type: 'object' },
          },
        },
        encoding: { csv: { explode: false }, deep: { style: 'deepObject', explode: true } },
      },
    }
    expect(
      await sent(content, {
        a: 'x y&z=1',
        list: [1, 2],
        csv: [1, 2],
        deep: { a: { b: 1 }, c: [1, 2] },
        data: { a: 1 },
      }),
    ).toEqual({
      type: 'application/x-www-form-urlencoded',
      body: 'a=x%20y%26z%3D1&list=1&list=2&csv=1,2&deep%5Ba%5D%5Bb%5D=1&deep%5Bc%5D=1&deep%5Bc%5D=2&data=%7B%22a%22%3A1%7D',
    })
  })

  it('of multipart have files as base64 or data: URIs, and no name ends a header', async () => {
    const content = {
      'multipart/form-data': {
        schema: {
          type: 'object',
          properties: { 'a"\r\nX: y': text, meta: { type: 'object' }, file, files: { type: 'array', items: file } },
        },
        encoding: { file: { contentType: 'image/png, image/*' } },
      },
    }
    const { type, body } = await sent(content, {
      a_X_y: 'one',
      meta: { n: 1 },
      file: Buffer.from([0xff, 0]).toString('base64'),
      files: ['data:text/plain;name=n%22%0D%0Aotes.txt;base64,SGk=', 'data:,Hi%20there'],
    })
    const boundary = type!.slice('multipart/form-data; boundary='.length)
    expect(body!.split(`--${boundary}`).map((part) => part.trim())).toEqual([
      '',
      'Content-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n{"n":1}',
      'Content-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: image/png\r\n\r\n\xff\x00'.trim(),
      'Content-Disposition: form-data; name="files"; filename="n%22%0D%0Aotes.txt"\r\nContent-Type: text/plain\r\n\r\nHi',
      'Content-Disposition: form-data; name="files"; filename="files"\r\nContent-Type: application/octet-stream\r\n\r\nHi there',
      '--',
    ])
  })

  it('of texts and bytes are one argument', async () => {
    expect(await sent({ 'text/plain': { schema: text } }, { body: 'ü' })).toEqual({
      type: 'text/plain; charset=utf-8',
      body: 'Ã¼',
    })
    expect(
      await sent({ 'application/xml': { schema: { type: 'object', properties: { a: text } } } }, { body: '<a/>' }),
    ).toEqual({
      type: 'application/xml',
      body: '<a/>',
    })
    expect(await sent({ 'application/octet-stream': { schema: file } }, { body: 'SGk=' })).toEqual({
      type: 'application/octet-stream',
      body: 'Hi',
    })
    expect(await sent({ 'application/zip': {} }, { body: 'data:text/html;base64,SGk=' })).toEqual({
      type: 'application/zip',
      body: 'Hi',
    })
    for (const body of ['not base64!', 5, 'data:text/plain;base64', 'data:;base64,%%%'])
      await expect(sent({ 'application/octet-stream': {} }, { body }), String(body)).rejects.toThrow(/is not sent/)
  })
})

describe('parameters', () => {
  const of = async (parameter: object, value: unknown): Promise<string> => {
    const { operation } = await toolOf({ parameters: [{ name: 'q', in: 'query', ...parameter }] }, { method: 'get' })
    return buildRequest(operation, { q: value }).query
  }
  it('with content are texts of their media type', async () => {
    expect(
      await of({ content: { 'application/json': { schema: { type: 'object' } } }, style: 'form' }, { a: [1] }),
    ).toBe('?q=%7B%22a%22%3A%5B1%5D%7D')
    expect(await of({ content: { 'text/plain': {} } }, 'a&b')).toBe('?q=a%26b')
  })
  it('that allow reserved characters keep those that end nothing', async () => {
    expect(await of({ allowReserved: true, schema: text }, "a/b?c:d@e!$'()*,;&=+#[]% ")).toBe(
      "?q=a/b?c:d@e!$'()*,%3B%26%3D%2B%23%5B%5D%25%20",
    )
  })
  it('of OpenAPI 3.2 can be all of the query string', async () => {
    const whole = (type: string) => ({ in: 'querystring', content: { [type]: { schema: { type: 'object' } } } })
    expect(await of(whole('application/x-www-form-urlencoded'), { a: 'x&y', b: [1, 2] })).toBe('?a=x%26y&b=1&b=2')
    expect(await of(whole('application/json'), { a: 1 })).toBe('?%7B%22a%22%3A1%7D')
  })
  it('in the query string of a path always go along, and a fragment never does', async () => {
    const tools = await toolsOf(
      aDocument({
        '/r?beta=true': { get: { operationId: 'beta' } },
        '/r': { get: { operationId: 'plain' } },
        '/r#add': { get: { operationId: 'add', parameters: [{ name: 'q', in: 'query', schema: text }] } },
      }),
    )
    const urls = tools.map(({ operation }) => {
      const { path, query } = buildRequest(operation, { q: 'x', beta: 'false' })
      return path + query
    })
    expect(urls).toEqual(['/r?beta=true', '/r', '/r?q=x'])
  })
  it('without a value are left out, and nothing else is', async () => {
    const tool = await toolOf(
      {
        parameters: [
          { name: 'a', in: 'query', schema: {} },
          { name: 'b', in: 'query', schema: {} },
        ],
      },
      { method: 'get' },
    )
    expect(buildRequest(tool.operation, { a: null, b: '' }).query).toBe('?b=')
    expect(buildRequest(tool.operation, { a: [], b: {} }).query).toBe('')
    expect(await validateArguments(tool, { a: 1, c: 2 })).toEqual(['The arguments: there is no "c".'])
  })
  it('half of a character is refused', async () => {
    await expect(of({ schema: text }, '\ud800')).rejects.toThrow(/half of a character/)
  })
})
