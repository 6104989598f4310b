/**
 * A tiny browser over HTTP with the cookies of a real one, for tests and the quickstart.
 * 1. `createBrowser()` has its own cookie jar.
 * 2. `open(url)` follows redirects and stops at a page, or before an address that `stopAt` accepts.
 * 3. `submit(page, fields)` posts the page's form, hidden fields included.
 */
import { CookieJar } from 'tough-cookie'
import { parseForm } from '#dev'

export { parseForm }

export interface Page {
  readonly url: string
  readonly status: number
  readonly headers: Headers
  readonly body: string
}
export interface Browser {
  readonly jar: CookieJar
  open(url: string): Promise<Page>
  submit(page: Page, fields?: Readonly<Record<string, string>>): Promise<Page>
}

const MOST_REDIRECTS = 20

/** @param options.stopAt a redirect to such an address is not followed; its page has the address as `url` and status 0 */
export const createBrowser = (options: { stopAt?: (url: string) => boolean } = {}): Browser => {
  const jar = new CookieJar()
  const request = async (first: string, start: RequestInit = {}): Promise<Page> => {
    let url = first
    let init = start
    for (let hop = 0; hop <= MOST_REDIRECTS; hop += 1) {
      const headers = new Headers(init.headers)
      const cookie = await jar.getCookieString(url)
      if (cookie !== '') headers.set('cookie', cookie)
      const response = await fetch(url, { ...init, headers, redirect: 'manual' })
      for (const line of response.headers.getSetCookie()) await jar.setCookie(line, url, { ignoreError: true })
      const location = response.headers.get('location')
      const body = await response.text()
      if (location === null) return { url, status: response.status, headers: response.headers, body }
      url = new URL(location, url).href
      init = response.status === 307 || response.status === 308 ? init : {}
      if (options.stopAt?.(url) === true) return { url, status: 0, headers: new Headers(), body: '' }
    }
    throw new Error(`more than ${MOST_REDIRECTS} redirects from ${first}`)
  }
  return {
    jar,
    open: (url) => request(url),
    submit(page, fields = {}) {
      const form = parseForm(page)
      const values = new URLSearchParams({ ...form.fields, ...fields })
      if (form.method === 'POST') return request(form.action, { method: 'POST', body: values })
      const url = new URL(form.action)
      url.search = values.toString()
      return request(url.href)
    },
  }
}
