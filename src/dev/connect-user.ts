/** Connects the notes service for a user, by the pages that a person sees. */
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { walk } from './browser.ts'
import { accountOf, DOWNSTREAM, SCOPES } from './facts.ts'

const answerSchema = z.looseObject({ access_token: z.string().optional(), connect_url: z.string().optional() })

/** A token exchange at the local API, as the author's server does it. */
export const exchange = (socketPath: string, subjectToken: string): Promise<z.output<typeof answerSchema>> =>
  new Promise((resolve, reject) => {
    const form = new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: ACCESS_TOKEN_TYPE,
      subject_token: subjectToken,
      audience: DOWNSTREAM,
      scope: SCOPES.join(' '),
    }).toString()
    request(
      {
        socketPath,
        path: '/oauth2/token',
        method: 'POST',
        agent: false,
        headers: { host: 'localhost', 'content-type': 'application/x-www-form-urlencoded' },
      },
      (response) => {
        text(response)
          .then((body) => answerSchema.parse(JSON.parse(body)))
          .then(resolve, reject)
      },
    )
      .on('error', reject)
      .end(form)
  })

/** @returns whether the user has connected the notes service now */
export const connectUser = async (
  place: { readonly socket: string; readonly service: string },
  user: string,
  subjectToken: string,
): Promise<boolean> => {
  const { connect_url: url, access_token: issued } = await exchange(place.socket, subjectToken)
  if (issued !== undefined) return true
  if (url === undefined) return false
  await walk(url, (page) => {
    if (!page.body.includes('name="login"')) return { decision: 'allow' }
    return { login: page.url.startsWith(place.service) ? accountOf(user) : user }
  })
  return (await exchange(place.socket, subjectToken)).access_token !== undefined
}
