/** A person without a browser: follows redirects, keeps cookies and sends forms. It connects the notes service for alice. */

export interface Page {
  readonly url: string
  readonly status: number
  readonly body: string
}

export interface Form {
  readonly action: string
  readonly method: string
  readonly fields: Readonly<Record<string, string>>
}

const MAX_REDIRECTS = 20
const MAX_FORMS = 8

const decode = (text: string): string =>
  text
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')

const attribute = (tag: string, name: string): string | undefined => {
  const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'i').exec(tag)
  const value = found?.[1] ?? found?.[2]
  return value === undefined ? undefined : decode(value)
}

/** The first form of a page. Ticked checkboxes and filled inputs count, as in a browser. @throws Error when there is none */
export const parseForm = (page: Page): Form => {
  const found = /(<form\b[^>]*>)([\s\S]*?)<\/form>/i.exec(page.body)
  if (found === null) throw new Error(`no form at ${page.url} (${page.status}): ${page.body.slice(0, 300)}`)
  const [, tag, inner] = found as unknown as [string, string, string]
  const fields: Record<string, string> = {}
  for (const [input] of inner.matchAll(/<input\b[^>]*>/gi)) {
    const name = attribute(input, 'name')
    const type = attribute(input, 'type')?.toLowerCase() ?? 'text'
    if (name === undefined || type === 'submit') continue
    if ((type === 'checkbox' || type === 'radio') && !/\schecked\b/i.test(input)) continue
    fields[name] = attribute(input, 'value') ?? (type === 'checkbox' ? 'on' : '')
  }
  return {
    action: new URL(attribute(tag, 'action') ?? '', page.url).href,
    method: (attribute(tag, 'method') ?? 'get').toUpperCase(),
    fields,
  }
}

/** Cookies of the world's own pages: each flow is new, so neither paths nor ends matter. */
const createCookies = () => {
  const jars = new Map<string, Map<string, string>>()
  return {
    header: (url: string): string =>
      [...(jars.get(new URL(url).origin) ?? [])].map(([name, value]) => `${name}=${value}`).join('; '),
    take(url: string, lines: readonly string[]): void {
      const { origin } = new URL(url)
      const jar = jars.get(origin) ?? new Map<string, string>()
      jars.set(origin, jar)
      for (const line of lines) {
        const [, name, value] = /^([^=;]+)=([^;]*)/.exec(line) ?? []
        if (name === undefined) continue
        if (value === '') jar.delete(name)
        else jar.set(name, value ?? '')
      }
    },
  }
}

/**
 * Opens a page and answers its forms and those that follow.
 * @param answer what the person writes or chooses on a page. @returns the first page without a form
 */
export const walk = async (start: string, answer: (page: Page) => Readonly<Record<string, string>>): Promise<Page> => {
  const cookies = createCookies()
  const open = async (first: string, init: RequestInit = {}): Promise<Page> => {
    let [url, request] = [first, init]
    for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
      const response = await fetch(url, {
        ...request,
        headers: { cookie: cookies.header(url) },
        redirect: 'manual',
      })
      cookies.take(url, response.headers.getSetCookie())
      const [location, body] = [response.headers.get('location'), await response.text()]
      if (location === null) return { url, status: response.status, body }
      url = new URL(location, url).href
      request = {}
    }
    throw new Error(`more than ${MAX_REDIRECTS} redirects from ${first}`)
  }
  let page = await open(start)
  for (let form = 0; form < MAX_FORMS && page.body.includes('<form'); form += 1) {
    const { action, fields } = parseForm(page)
    page = await open(action, { method: 'POST', body: new URLSearchParams({ ...fields, ...answer(page) }) })
  }
  return page
}
