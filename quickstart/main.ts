/**
 * `npm run quickstart`: a user, two MCP servers, an identity provider, an OAuth service and Deputy, all real, all on
 * this machine. One line a step. `--keep` leaves everything running until Ctrl-C.
 */
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { createBrowser, type Browser, type Page } from '../test/peers/walk.ts'
import { signInFromNothing } from './mcp-client.ts'
import { publishTools, startWorld, type World } from './world.ts'

const keep = process.argv.includes('--keep')
const began = performance.now()
let last = began

const say = (what: string): void => {
  const now = performance.now()
  process.stdout.write(`${`${Math.round(now - last)} ms`.padStart(8)}  ${what}\n`)
  last = now
}

const expect = (holds: boolean, what: string, shown: unknown): void => {
  if (!holds) throw new Error(`${what}\n${JSON.stringify(shown, null, 2)}`)
}

interface Answer {
  readonly text: string
  readonly isError: boolean
  readonly refused: boolean
}

/** Calls the tool as a real MCP client does, with the user's token. A server that does not take the token says so in a header. */
const callTool = async (url: string, token: string, name = 'list_notes'): Promise<Answer> => {
  let refused: string | null = null
  const client = new Client({ name: 'quickstart', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
  try {
    await client.connect(
      new StreamableHTTPClientTransport(new URL(url), {
        requestInit: { headers: { authorization: `Bearer ${token}` } },
        fetch: async (input, init) => {
          const response = await fetch(input, init)
          refused = response.headers.get('www-authenticate')
          return response
        },
      }),
    )
    const { content, isError = false } = await client.callTool({ name, arguments: {} })
    return { text: content[0]?.type === 'text' ? content[0].text : '', isError, refused: false }
  } catch (error) {
    if (refused === null) throw error
    return { text: refused, isError: true, refused: true }
  } finally {
    await client.close()
  }
}

/** Why a token was refused is between the server and Deputy: the answer says under which id. */
const idIn = ({ text }: Answer): string => /\(([\w-]{20,})\)/.exec(text)?.[1] ?? 'none'
const reasonOf = async (world: World, answer: Answer): Promise<string> =>
  /Refused \(\w+\): (.*)/.exec((await world.deputy('explain', idIn(answer))).out)?.[1] ?? answer.text

/** Signs in on a page of one of the OpenID providers, and consents there when asked. */
const passProvider = async (browser: Browser, first: Page, user: string, url: string): Promise<Page> => {
  let page = first
  for (let at = 0; at < 3 && page.url.startsWith(url); at += 1) {
    page = page.body.includes('name="login"')
      ? await browser.submit(page, { login: user })
      : await browser.submit(page, { decision: 'allow' })
  }
  return page
}

const connect = async (world: World, url: string): Promise<Page> => {
  const browser = createBrowser()
  let page = await browser.open(url)
  page = await passProvider(browser, page, 'alice', world.idp.url)
  say(`alice signed in at the company and sees: ${/<h1>(.*?)<\/h1>/.exec(page.body)?.[1]}`)
  page = await browser.submit(page, { decision: 'allow' })
  say('alice consents and goes on to the notes service')
  return await passProvider(browser, page, 'alice-notes', world.service.url)
}

/** The API of the notes service becomes tools, which alice calls with her own credential. */
const callApi = async (world: World): Promise<void> => {
  await publishTools(world)
  say('deputy api add notes: the API of the notes service is published as tools of a server that Deputy itself runs')
  const token = await signIn(world.tools.url)
  let answer = await callTool(world.tools.url, token, 'listNotes')
  const link = /https?:\/\/\S+\/connect\/\S+/.exec(answer.text)?.[0]
  if (link !== undefined) {
    await connect(world, link)
    answer = await callTool(world.tools.url, token, 'listNotes')
  }
  expect(!answer.isError, 'the tool of the API should answer the notes', answer)
  say(`alice calls listNotes: ${answer.text}`)
  const hidden = await callTool(world.tools.url, token, 'deleteNotes').catch(
    (error: unknown) => (error as Error).message,
  )
  expect(hidden === 'Tool deleteNotes not found', 'a tool that policy denies should not exist', hidden)
  say(`alice calls deleteNotes, which policy does not permit: ${String(hidden)}`)
}

const signIn = (url: string): Promise<string> =>
  signInFromNothing(url, ({ body }) => (body.includes('name="login"') ? { login: 'alice' } : { decision: 'allow' }))

const run = async (world: World): Promise<void> => {
  const accessToken = await signIn(world.servers.notes.url)
  say(
    'an MCP client that knew only the URL of the server notes has registered at Deputy; alice signed in at the company',
  )
  say('and allowed it: the client has a token for notes, and for no other server')

  const first = await callTool(world.servers.notes.url, accessToken)
  const link = /https?:\/\/\S+\/connect\/\S+/.exec(first.text)?.[0]
  expect(first.isError && link !== undefined, 'the first call should answer a connect URL', first)
  say(`alice calls list_notes: ${first.text}`)

  const page = await connect(world, link!)
  expect(page.body.includes('Connected'), 'the connect flow should end on the page "Connected"', page)
  say('the notes service gave its consent; Deputy keeps the grant, encrypted')

  const second = await callTool(world.servers.notes.url, accessToken)
  expect(!second.isError, 'the call should answer the notes', second)
  say(`alice calls list_notes again: ${second.text}`)

  const confused = await callTool(world.servers.calendar.url, accessToken)
  expect(confused.refused, 'the other server should be refused', confused)
  say(`the server calendar presents alice's token: refused: ${await reasonOf(world, confused)}`)

  await callApi(world)

  const revoked = await world.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--reason', 'quickstart')
  expect(revoked.code === 0, 'deputy revoke should succeed', revoked)
  say(`deputy revoke --tenant acme --user alice: ${revoked.out.split('\n', 1)[0]}`)

  const after = await callTool(world.servers.notes.url, accessToken)
  expect(after.refused, 'the call after the revocation should be refused', after)
  say(`alice calls list_notes: refused: ${await reasonOf(world, after)}`)

  const auditNote = await world.deputy('explain', idIn(after))
  say(
    `deputy explain ${idIn(after)}:\n${auditNote.out
      .trimEnd()
      .split('\n')
      .map((line) => `            ${line}`)
      .join('\n')}`,
  )
  const tail = await world.deputy('audit', 'tail', '--limit', '12')
  say(
    `the audit log:\n${tail.out
      .trimEnd()
      .split('\n')
      .map((line) => `            ${line}`)
      .join('\n')}`,
  )
  const verified = await world.deputy('audit', 'verify')
  expect(verified.code === 0, 'the audit chain should hold', verified)
  say(verified.out.trim())
}

// The stand-ins run on oidc-provider, which warns of its in-memory store and development settings. Both are wanted here.
for (const level of ['info', 'warn'] as const) {
  const print = console[level].bind(console)
  console[level] = (...words: unknown[]) => {
    if (!/oidc-provider (NOTICE|WARNING): /.test(String(words[0]))) print(...words)
  }
}

const world = await startWorld(say)
let failed = false
try {
  await run(world)
} catch (error) {
  failed = true
  process.stderr.write(`\nThe quickstart failed: ${(error as Error).message}\n`)
}
process.stdout.write(`${failed ? 'failed' : 'done'} in ${((performance.now() - began) / 1000).toFixed(1)} s\n`)
if (keep) {
  process.stdout.write(`\nEverything keeps running; Ctrl-C ends it.
  identity provider  ${world.idp.url} (users alice, bob and carol, without passwords)
  notes service      ${world.service.url} (users alice-notes, bob-notes and carol-notes)
  connect pages      ${world.connectUrl}
  the folder         ${world.home}
  try                npm run deputy -- status --home ${world.home}\n`)
  await new Promise<void>((resolve) => {
    process.once('SIGINT', () => {
      resolve()
    })
  })
}
await world.close()
process.exitCode = failed ? 1 : 0
