/** The real documents of test/fixtures/openapi (see its README.md), as the converter reads them. */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import {
  type ApiDocument,
  type ApiOptions,
  bundle,
  parseDocumentText,
  upgradeDocument,
} from '../../src/openapi/index.ts'

const FOLDER = new URL('../fixtures/openapi/', import.meta.url)

/** File, and the base URL where the document has none that stands by itself. */
export const DOCUMENTS: readonly (readonly [file: string, baseUrl?: string])[] = [
  ['box.json.gz'],
  ['conjur/openapi.yml', 'https://conjur.example.com'],
  ['discord.json.gz'],
  ['docker-engine.yaml.gz', 'https://docker.example.com/v1.53'],
  ['github.json.gz'],
  ['kubernetes-apiextensions-v1.json.gz', 'https://kubernetes.example.com'],
  ['lob.yml.gz'],
  ['openai.yaml.gz'],
  ['qdrant.json.gz', 'https://qdrant.example.com'],
  ['redocly-cafe.yaml'],
  ['scalar-galaxy.yaml'],
  ['twilio-api-v2010.json.gz'],
  ['small/oai-tictactoe.yaml', 'https://tictactoe.example.com'],
  ['small/readme-parameters-style.json'],
  ['small/readme-security.json'],
  ['small/redocly-museum.yaml'],
  ['small/redocly-oas32-lint.yaml', 'https://lint.example.com'],
  ['small/redocly-oas32-sse.yaml', 'https://sse.example.com'],
  ['small/swagger-petstore.yaml', 'https://petstore3.swagger.io/api/v3'],
  ['small/trpc-approuter.json.gz', 'https://trpc.example.com'],
]

const textOf = (file: string | URL): string => {
  const bytes = readFileSync(new URL(file, FOLDER))
  return (String(file).endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
}

/** A document with what it takes from files beside it. */
export const openDocument = async (file: string): Promise<ApiDocument> => {
  const read = async (location: string): Promise<unknown> => parseDocumentText(textOf(new URL(location)), location)
  const location = new URL(file, FOLDER).href
  return upgradeDocument(await bundle(location, await read(location), read), file)
}

/** What a file of an API says that names no tool. */
export const anApi = (given: Partial<ApiOptions> = {}): ApiOptions => ({
  api: 'api',
  variables: {},
  scopes: {},
  tools: [],
  timeout: 30_000,
  max_bytes: 1_048_576,
  document: {},
  ...given,
})
