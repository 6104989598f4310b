import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { isLoopback } from './listen.ts'
import { problemsOf } from './names.ts'

/** The address of the connect pages, which users' browsers open. */
export const checkSettings = ({ settings }: Loaded): Problem[] => {
  const pages = settings.value.connect_url
  return pages?.startsWith('http:') === true && !isLoopback(new URL(pages).hostname)
    ? [
        problemsOf(settings)(
          ['connect_url'],
          'connect_url is plain http, so sign-in could be read on the way.',
          'Write the https URL of the reverse proxy.',
        ),
      ]
    : []
}
