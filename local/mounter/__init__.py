"""The dev site's stand-in for a CVMFS client: repositories of a web server, mounted through the site's squids.

It runs inside the image `cvmfs` with nothing but the standard library, and there obeys the variables and commands of
CERN's service image as far as the site uses them.
"""
