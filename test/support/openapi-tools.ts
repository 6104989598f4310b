/** Tools of documents that a test writes as data. */
import { type ApiTool, compileApi, type Target, upgradeDocument } from '../../src/openapi/index.ts'
import { anApi } from './openapi-documents.ts'

export const ORIGIN = 'https://api.example.com'

/** A document with these path items. */
export const aDocument = (paths: object, more: object = {}): Record<string, unknown> => ({
  openapi: '3.1.1',
  info: { title: 'An API', version: '1' },
  servers: [{ url: ORIGIN }],
  paths,
  ...more,
})

/** Every operation of a document as a tool. @throws Error with the problems, where there are some */
export const toolsOf = async (
  document: object,
  given: Parameters<typeof anApi>[0] = {},
  target: Partial<Target> = {},
): Promise<readonly ApiTool[]> => {
  const api = anApi({ tools: [{ path: '/*' }], ...given })
  const read = await upgradeDocument(document, 'the document')
  const { tools, problems, left } = compileApi(api, read, { origins: [], filled: [], hasScopes: true, ...target })
  const wrong = [...problems, ...left].map(({ message }) => message)
  if (wrong.length > 0) throw new Error(wrong.join('\n'))
  return tools
}

/** The one tool of `POST /things`, or of the method and path given. */
export const toolOf = async (
  operation: object,
  options: { readonly method?: string; readonly path?: string; readonly more?: object } = {},
): Promise<ApiTool> => {
  const { method = 'post', path = '/things', more } = options
  return (await toolsOf(aDocument({ [path]: { [method]: operation } }, more)))[0]!
}

/** The tool of a query parameter `value` with this schema. */
export const toolWith = (schema: unknown, more: object = {}): Promise<ApiTool> =>
  toolOf({ parameters: [{ name: 'value', in: 'query', schema }] }, { method: 'get', more })
