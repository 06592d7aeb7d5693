/* Version of Hadal. */
#ifndef HADAL_VERSION_H
#define HADAL_VERSION_H
#define HADAL_VERSION "0.1.0"
#endif
