from tests.chaos.chaos import main

if __name__ == "__main__":
    main()
